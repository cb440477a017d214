"""The dialplans for FreeSWITCH, line by line, and that no text of a caller becomes anything but text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from scalelite.cluster import dialin
from scalelite.cluster.dialin import Prompts, expression, lookup_numbers, shown_name, sip_host

DOCUMENT = etree.RelaxNG(
    etree.fromstring(
        b"""
<element name="document" xmlns="http://relaxng.org/ns/structure/1.0">
  <attribute name="type"><value>freeswitch/xml</value></attribute>
  <element name="section"><choice>
    <group>
      <attribute name="name"><value>result</value></attribute>
      <element name="result"><attribute name="status"><value>not found</value></attribute></element>
    </group>
    <group>
      <attribute name="name"><value>dialplan</value></attribute>
      <attribute name="description"/>
      <element name="context">
        <attribute name="name"><value>public</value></attribute>
        <element name="extension">
          <attribute name="name"/>
          <element name="condition">
            <attribute name="field"><value>destination_number</value></attribute>
            <attribute name="expression"/>
            <oneOrMore><element name="action">
              <attribute name="application"><choice>
                <value>answer</value><value>sched_hangup</value><value>sleep</value><value>playback</value>
                <value>play_and_get_digits</value><value>transfer</value><value>set</value><value>bridge</value>
              </choice></attribute>
              <optional><attribute name="data"/></optional>
            </element></oneOrMore>
          </element>
        </element>
      </element>
    </group>
  </choice></element>
</element>
"""
    )
)

PROMPT = r"""<document type="freeswitch/xml">
  <section name="dialplan" description="Match DID and Pin for Conference">
    <context name="public">
      <extension name="match_did_and_prompt_for_pin">
        <condition field="destination_number" expression="^\\+1\\(555\\)$">
          <action application="answer"/>
          <action application="sched_hangup" data="+5400 normal_clearing"/>
          <action application="sleep" data="500"/>
          <action application="playback" data="ivr/ivr-welcome.wav"/>
          <action application="sleep" data="200"/>
          <action application="play_and_get_digits" data="5 9 3 7000 # conference/conf-enter_conf_pin.wav conference/conf-bad-pin.wav pin \d+"/>
          <action application="transfer" data="${pin} XML public"/>
        </condition>
      </extension>
    </context>
  </section>
</document>
"""  # noqa: E501
REPROMPT = r"""<document type="freeswitch/xml">
  <section name="dialplan" description="Reprompt Pin for Conference">
    <context name="public">
      <extension name="reprompt_for_pin">
        <condition field="destination_number" expression="^12345$">
          <action application="playback" data="conference/conf-bad-pin.wav"/>
          <action application="sleep" data="500"/>
          <action application="play_and_get_digits" data="4 12 3 7000 # conference/conf-enter_conf_pin.wav conference/conf-bad-pin.wav pin \d+"/>
          <action application="transfer" data="${pin} XML public"/>
        </condition>
      </extension>
    </context>
  </section>
</document>
"""  # noqa: E501
BRIDGE = r"""<document type="freeswitch/xml">
  <section name="dialplan" description="Bridge Call to BBB Server">
    <context name="public">
      <extension name="bridge_to_bbb_server">
        <condition field="destination_number" expression="^123456789$">
          <action application="set" data="meeting_id=room-42"/>
          <action application="set" data="effective_caller_id_name=555XXXX"/>
          <action application="bridge" data="sofia/external/123456789@bbb7.example.net"/>
        </condition>
      </extension>
    </context>
  </section>
</document>
"""


def test_a_call_without_pin_is_taken_and_asked_for_it() -> None:
    assert dialin.prompt("+1(555)", Prompts(5, 9, 90)).decode() == PROMPT


def test_a_call_without_limit_is_not_ended() -> None:
    limit = '          <action application="sched_hangup" data="+5400 normal_clearing"/>\n'
    assert dialin.prompt("+1(555)", Prompts(5, 9)).decode() == PROMPT.replace(limit, "")


def test_a_wrong_pin_is_asked_for_again_by_a_pattern_that_digits_match() -> None:
    assert dialin.reprompt("12345", Prompts(4, 12, 90)).decode() == REPROMPT


def test_a_known_pin_is_connected_with_the_meetings_server() -> None:
    document = dialin.bridge("123456789", "room-42", "555XXXX", "123456789", "bbb7.example.net")
    assert document.decode() == BRIDGE


def test_what_is_no_call_of_ours_is_not_found() -> None:
    assert DOCUMENT.validate(etree.fromstring(dialin.REJECT))
    assert dialin.REJECT.startswith(b"<document ")


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("5551234", "^5551234$"),
        ("+1(555)", r"^\\+1\\(555\\)$"),
        ("[a]{b}|c-d*e.f?g^h$i#j k", r"^\\[a\\]\\{b\\}\\|c\\-d\\*e\\.f\\?g\\^h\\$i\\#j\\ k$"),
        ("a\\b", r"^a\\\\b$"),
        ("${x}", r"^\\$\\{x\\}$"),
        ("a&b~c'd\"e", "^a&b~c'd\"e$"),
        ("a\nb\tc\rd", r"^a\\nb\\tc\\rd$"),
        ("٣ä", "^٣ä$"),
    ],
)
def test_a_destination_is_quoted_for_the_condition(destination: str, expected: str) -> None:
    assert expression(destination) == expected


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_the_condition_matches_the_destination_and_nothing_else(destination: str) -> None:
    # What FreeSWITCH's expansion leaves of it.
    pattern = expression(destination).replace("\\\\", "\\")
    assert re.fullmatch(pattern[1:-1], destination)
    assert not re.fullmatch(pattern[1:-1], destination + "0")


@pytest.mark.parametrize(
    ("name", "hide_name", "hide_number", "shown"),
    [
        ("5551234", False, False, "555XXXX"),
        ("5551234", True, False, "555XXXX"),
        ("5551234", False, True, "Unavailable"),
        ("1234", False, False, "XXXX"),
        ("12", False, False, "XX"),
        ("+49301234567", False, False, "+4930123XXXX"),
        ("+49 30 123-45 67", False, False, "+49 30 123-XX XX"),
        ("+1 (555) 123.45.67", False, False, "+1 (555) 123.XX.XX"),
        ("+49301234567", False, True, "Unavailable"),
        (" 5551234 ", False, False, "555XXXX"),
        ("٠١٢٣٤٥", False, False, "٠١XXXX"),
        ("Ann", False, False, "Ann"),
        ("Ann", False, True, "Ann"),
        ("Ann", True, False, "Unavailable"),
        ("Ann 2", False, False, "Ann 2"),
        ("", False, False, "Unavailable"),
        (" \t", False, False, "Unavailable"),
        ("+", False, False, "+"),
        ("Ann\r\nVia: x", False, False, "Ann  Via: x"),
        ("A\0\x1b\u202eB", False, False, "A   B"),
        ("x" * 200, False, False, "x" * 128),
    ],
)
def test_callers_are_shown_as_they_allow_and_numbers_never_whole(
    name: str, hide_name: bool, hide_number: bool, shown: str
) -> None:
    assert shown_name(name, hide_name=hide_name, hide_number=hide_number) == shown


@given(st.text("0123456789+-./() ", max_size=30))
def test_of_no_spelling_of_a_number_the_last_four_digits_are_shown(number: str) -> None:
    digits = [c for c in number if c.isdigit()]
    shown = shown_name(number, hide_name=False, hide_number=False)
    assert [c for c in shown if c.isdigit()] == digits[:-4]


@pytest.mark.parametrize(
    ("pin", "numbers"),
    [
        ("12345", ("12345",)),
        ("123456", ("123456", "12345")),
        ("1", ("1",)),
        ("9" * 32, ("9" * 32, "9" * 31)),
        ("9" * 33, ()),
        ("12345,", ()),
        ("12345 ", ()),
        ("12345\n", ()),
        ("+12345", ()),
        ("٣٣٣٣٣٣", ()),
        ("²²²²²²", ()),
        ("", ()),
    ],
)
def test_a_pin_is_digits_and_may_have_a_rooms_digit_behind(pin: str, numbers: tuple[str, ...]) -> None:
    assert lookup_numbers(pin) == numbers


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://bbb7.example.net/bigbluebutton/api", "bbb7.example.net"),
        ("https://BBB7.example.net:8443/bigbluebutton/api", "bbb7.example.net"),
        ("http://10.0.0.7/", "10.0.0.7"),
        ("http://[2001:db8::7]:80/api", "[2001:db8::7]"),
        ("http://user:pw@bbb_7/api", "bbb_7"),
        ("http://a,b/api", None),
        ("http://${x}/api", None),
        ("http:///api", None),
        ("bbb7.example.net", None),
        ("", None),
        ("http://[::1/api", None),
        ("http://[::1%25eth0]/api", None),
    ],
)
def test_the_host_of_a_server_is_called_if_it_is_one(url: str, host: str | None) -> None:
    assert sip_host(url) == host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("room-42", "room-42"),
        ("5 $ a$b $", "5 $ a$b $"),
        ("a\\b", "a\\\\b"),
        ("${uuid}", "{uuid}"),
        ("$${uuid}", "{uuid}"),
        ("$0 $12 ${1}", "0 12 {1}"),
        ("$\\'{system id}", "\\\\'{system id}"),
        ("a&b<c>\"d'\n\t\r", "a&b<c>\"d'\n\t\r"),
        ("\x01\ufffe", "\ufffd\ufffd"),
    ],
)
def test_no_variable_of_freeswitch_is_left_in_a_value(text: str, expected: str) -> None:
    root = etree.fromstring(dialin.bridge("1", text, text, "1", "h"))
    values = [action.get("data") for action in root.iter("action")]
    assert values == [f"meeting_id={expected}", f"effective_caller_id_name={expected}", "sofia/external/1@h"]


#: Texts that a reader of XML, of FreeSWITCH's variables or of SIP would take for something.
hostile = st.lists(
    st.one_of(
        st.sampled_from(
            ["${", "}", "$", "\\", "'", '"', "<", ">", "&", "/>", "]]>", "<!--", "&#34;", "&quot;", "\n", "\r", "\t",
             "\0", "$0", "(", ")", ",", "|", "%22", "<action application='system' data='x'/>", '" x="', "{a=b}"]
        ),
        st.text(max_size=5),
    ),
    max_size=12,
).map("".join)  # fmt: skip


def expand(text: str) -> str:
    """FreeSWITCH's expansion as far as it unescapes; a variable is an error."""
    expanded, i = "", 0
    while i < len(text):
        assert not re.match(r"\$+\{", text[i:]), text
        if text[i] == "\\" and text[i + 1 : i + 2] in ("$", "\\"):
            i += 1
        elif text[i] == "\\" and text[i + 1 : i + 2] == "'":
            i += 2
            continue
        expanded += text[i]
        i += 1
    return expanded


@given(destination=hostile, meeting_id=hostile, name=hostile)
def test_no_text_adds_an_element_an_attribute_or_a_variable(destination: str, meeting_id: str, name: str) -> None:
    shown = shown_name(name, hide_name=False, hide_number=False)
    for document, actions in (
        (dialin.prompt(destination, Prompts()), 6),
        (dialin.reprompt(destination, Prompts()), 4),
        (dialin.bridge(destination, meeting_id, shown, "123456", "bbb1.example"), 3),
    ):
        root = etree.fromstring(document)
        DOCUMENT.assertValid(root)
        assert len(root.findall("section/context/extension/condition/action")) == actions
    *settings, connected = root.iter("action")
    assert connected.get("data") == "sofia/external/123456@bbb1.example"
    for action, variable in zip(settings, ("meeting_id=", "effective_caller_id_name="), strict=True):
        data = action.get("data") or ""
        assert data.startswith(variable)
        # Nor is a group of the condition put in, which could hold a variable; nor does any expansion find one.
        assert not re.search(r"\$\{?[0-9]", data)
        once = expand(data)
        assert not re.search(r"\$\{?[0-9]", once)
        expand(expand(once))
