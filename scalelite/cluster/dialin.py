"""Dial-in: the dialplans that FreeSWITCH is given for a telephone call, and what others get to see of the caller."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import attrs

from scalelite.bbb.xml import printable

SHORTEST_WITH_ROOM: Final = 6
"""Digits from which on the last one may be that of a breakout room, which the number's owner never sees."""

MAX_PIN: Final = 32
MAX_DESTINATION: Final = 256
MAX_NAME: Final = 128
UNAVAILABLE: Final = "Unavailable"

_ATTRIBUTE: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)
_QUOTED: Final = re.compile(r"[\[\]{}()|\-*.\\?+^$# \n\t\f\v\r]")
_QUOTED_AS: Final = {"\n": "\\n", "\t": "\\t", "\f": "\\f", "\v": "\\v", "\r": "\\r"}

# FreeSWITCH expands the arguments of an application, `set` expands its value once more, and the first of the two takes
# away a backslash or `\'`. A `$` that could come to stand before a variable or a group of the condition is no text.
_LIVE_DOLLAR: Final = re.compile(r"\$(?=[$\\']*[{0-9])")

_NUMBER: Final = re.compile(r"[\d+\-./() ]*\d[\d+\-./() ]*")
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@attrs.frozen
class Prompts:
    """What a caller is asked for: a PIN of so many digits. `max_duration` of a call in minutes, 0 for no limit."""

    min_digits: int = 5
    max_digits: int = 9
    max_duration: int = 0


def lookup_numbers(pin: str) -> tuple[str, ...]:
    """The voice bridges that a PIN may stand for, in order; none if it is no PIN.

    A breakout room's number is its meeting's with one digit more (BBB).
    """
    if not (pin.isascii() and pin.isdigit() and len(pin) <= MAX_PIN):
        return ()
    return (pin, pin[:-1]) if len(pin) >= SHORTEST_WITH_ROOM else (pin,)


def shown_name(name: str, *, hide_name: bool, hide_number: bool) -> str:
    """What the other participants see of a caller who is announced as `name`: of a number, never the last four digits.

    Telephones without a name send their number in its place, in any spelling.
    """
    name = "".join(c if c.isprintable() else " " for c in name[:MAX_NAME]).strip()
    if not name:
        return UNAVAILABLE
    if _NUMBER.fullmatch(name):
        return UNAVAILABLE if hide_number else _masked(name)
    return UNAVAILABLE if hide_name else name


def sip_host(url: str) -> str | None:
    """The host of a BBB server's URL, without port; an IPv6 address in brackets. None if there is no proper one."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    if ":" in host:
        # urlsplit takes only addresses in brackets.
        return f"[{host}]" if re.fullmatch(r"[0-9a-f:.]+", host) else None
    return host if _HOST.fullmatch(host) else None


def prompt(destination: str, prompts: Prompts) -> bytes:
    """Take the call and ask for the PIN."""
    limit = prompts.max_duration * 60
    return _dialplan(
        "Match DID and Pin for Conference", "match_did_and_prompt_for_pin", destination,
        ("answer", None),
        *([("sched_hangup", f"+{limit} normal_clearing")] if limit > 0 else []),
        ("sleep", "500"),
        ("playback", "ivr/ivr-welcome.wav"),
        ("sleep", "200"),
        *_asking(prompts),
    )  # fmt: skip


def reprompt(destination: str, prompts: Prompts) -> bytes:
    """Tell that the PIN was wrong, and ask again."""
    return _dialplan(
        "Reprompt Pin for Conference", "reprompt_for_pin", destination,
        ("playback", "conference/conf-bad-pin.wav"),
        ("sleep", "500"),
        *_asking(prompts),
    )  # fmt: skip


def bridge(destination: str, meeting_id: str, name: str, pin: str, host: str) -> bytes:
    """Connect the call with the meeting's server. `pin` and `host` as `lookup_numbers` and `sip_host` let them pass."""
    return _dialplan(
        "Bridge Call to BBB Server", "bridge_to_bbb_server", destination,
        ("set", f"meeting_id={_value(meeting_id)}"),
        ("set", f"effective_caller_id_name={_value(name)}"),
        ("bridge", f"sofia/external/{pin}@{host}"),
    )  # fmt: skip


REJECT: Final = b"""\
<document type="freeswitch/xml">
  <section name="result">
    <result status="not found"/>
  </section>
</document>
"""
"""The answer that is no dialplan: FreeSWITCH goes on with what it has itself, or hangs up."""


def expression(destination: str) -> str:
    """The regular expression that matches just this number, as FreeSWITCH reads it after its own expansion."""
    quoted = _QUOTED.sub(lambda found: _QUOTED_AS.get(found[0], "\\" + found[0]), destination)
    return "^" + quoted.replace("\\", "\\\\") + "$"


def _masked(number: str) -> str:
    hidden = 4
    masked = ""
    for c in reversed(number):
        if c.isdecimal() and hidden:
            hidden -= 1
            masked = "X" + masked
        else:
            masked = c + masked
    return masked


def _value(text: str) -> str:
    return _LIVE_DOLLAR.sub("", text).replace("\\", "\\\\")


def _asking(prompts: Prompts) -> tuple[tuple[str, str], ...]:
    digits = f"{prompts.min_digits} {prompts.max_digits}"
    files = "conference/conf-enter_conf_pin.wav conference/conf-bad-pin.wav"
    return (("play_and_get_digits", f"{digits} 3 7000 # {files} pin \\d+"), ("transfer", "${pin} XML public"))


def _dialplan(description: str, extension: str, destination: str, *actions: tuple[str, str | None]) -> bytes:
    """One condition with actions. Every text is escaped here, so that none can become an element or an attribute."""
    lines = "".join(
        f"          <action{_attribute('application', application)}{_attribute('data', data)}/>\n"
        for application, data in actions
    )
    return (
        '<document type="freeswitch/xml">\n'
        f'  <section name="dialplan"{_attribute("description", description)}>\n'
        '    <context name="public">\n'
        f"      <extension{_attribute('name', extension)}>\n"
        f'        <condition field="destination_number"{_attribute("expression", expression(destination))}>\n'
        f"{lines}"
        "        </condition>\n"
        "      </extension>\n"
        "    </context>\n"
        "  </section>\n"
        "</document>\n"
    ).encode()


def _attribute(name: str, value: str | None) -> str:
    return "" if value is None else f' {name}="{printable(value).translate(_ATTRIBUTE)}"'
