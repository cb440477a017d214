"""From words to calls: both spellings, and what is said of words that make no sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelite.admin.commands import TABLE
from scalelite.admin.line import HelpWanted, parse, rake_pieces
from scalelite.admin.table import Argument, Call, Command, Context, Failed, Flag, Option
from scalelite.admin.text import read_boolean


async def nothing(context: Context, call: Call) -> int:
    return 0


def command(name: str, *arguments: Argument, flags: tuple[Flag, ...] = (), missing: str | None = None) -> Command:
    return Command(name, nothing, f"Do {name}.", f"{name} 1", arguments, flags, missing)


FAST = Flag("fast", "Be quick.", aliases=("swift",))


def read_number(text: str) -> int:
    if not text.isdigit():
        raise ValueError("a number")
    return int(text)


NUMBER = Option("at-most", "How many.", read_number, ("10", "20"))
COMMANDS = (
    Command("count", nothing, "Count.", "count --at-most 3", flags=(FAST,), options=(NUMBER,)),
    command("list", flags=(FAST,)),
    command("list:again"),
    command(
        "change",
        Argument("id", "Which."),
        Argument("colour", "Its colour.", required=False, skippable=True),
        Argument("tag", "Its tag.", required=False, keeps_empty=True),
        Argument("on", "Whether.", required=False, read=read_boolean),
        flags=(FAST,),
    ),
    command("make", Argument("name", "Its name."), missing="Error: name it!"),
)
SMALL = {c.name: c for c in COMMANDS}


def one(*words: str) -> Call:
    (call,) = parse(SMALL, words)
    return call


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b\t", ["a", "b"]),
        ("a,,b", ["a", "", "b"]),
        ("a,", ["a", ""]),
        (r"Hi\, all", ["Hi, all"]),
        (r"Hi\, all,b", ["Hi, all", "b"]),
        (r"\\", ["\\"]),
        ("\\", ["\\"]),
        (r"a\ ", ["a "]),
        (r"\ a", [" a"]),
        (r"\x", ["x"]),
        ("a b", ["a b"]),
        ("[x]", ["[x]"]),
        ("https://h/api?x=y", ["https://h/api?x=y"]),
    ],
)
def test_arguments_in_brackets_are_cut_at_commas_and_trimmed(text: str, pieces: list[str]) -> None:
    assert rake_pieces(text) == pieces


@given(st.lists(st.text(), min_size=1))
def test_pieces_with_every_character_escaped_come_through_unchanged(pieces: list[str]) -> None:
    text = ",".join("".join("\\" + character for character in piece) for piece in pieces)
    assert rake_pieces(text) == pieces


@pytest.mark.parametrize("asked", ["-T", "--tasks", "--help"])
def test_rake_lists_its_tasks(asked: str) -> None:
    with pytest.raises(HelpWanted) as answer:
        parse(SMALL, ["rake", asked])
    assert str(answer.value).splitlines() == [
        "rake change[id,colour,tag,on]  # Do change.",
        "rake count                     # Count.",
        "rake list                      # Do list.",
        "rake list:again                # Do list:again.",
        "rake make[name]                # Do make.",
    ]


def test_plain_words_are_arguments_in_their_order() -> None:
    call = one("change", "7", "red", "gold", "true")
    assert call.command.name == "change"
    assert call.arguments == {"id": "7", "colour": "red", "tag": "gold", "on": True}
    assert not call.rake


def test_brackets_hold_the_same_arguments() -> None:
    call = one("change[7, red,gold ,true]")
    assert call.arguments == {"id": "7", "colour": "red", "tag": "gold", "on": True}
    assert call.rake


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (("change", "7", "-"), {"id": "7"}),
        (("change", "7", ""), {"id": "7"}),
        (("change", "7", "-", ""), {"id": "7", "tag": ""}),
        (("change", "7", "-", "-"), {"id": "7", "tag": "-"}),
        (("change[7,,]",), {"id": "7", "tag": ""}),
        (("change[7,,,]",), {"id": "7", "tag": ""}),
        (("change[7,]",), {"id": "7"}),
        (("change[]",), {}),
        (("change[7,,,no,,]",), {"id": "7", "tag": "", "on": False}),
    ],
)
def test_empty_and_dash_stand_for_what_is_not_given(words: tuple[str, ...], arguments: dict[str, object]) -> None:
    assert one(*words).arguments == arguments


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("list", "change[7]"), ["list", "change"]),
        (("list", "list:again"), ["list", "list:again"]),
        (("rake", "list", "list:again"), ["list", "list:again"]),
        (("rake", "list"), ["list"]),
        (("change[1]", "list", "change[2]"), ["change", "list", "change"]),
        (("list[]",), ["list"]),
    ],
)
def test_rake_takes_several_commands_on_a_line(words: tuple[str, ...], names: list[str]) -> None:
    calls = parse(SMALL, words)
    assert [call.command.name for call in calls] == names
    assert all(call.rake for call in calls)


def test_an_id_that_is_named_like_a_command_is_an_id() -> None:
    assert one("change", "list").arguments == {"id": "list"}


@pytest.mark.parametrize("words", [("change", "7", "--swift"), ("change", "--fast", "7"), ("change[7]", "--swift")])
def test_a_flag_stands_anywhere_and_under_any_of_its_names(words: tuple[str, ...]) -> None:
    assert one(*words).has(FAST)


def test_a_flag_goes_to_those_commands_of_a_rake_line_that_know_it() -> None:
    calls = parse(SMALL, ["change[7]", "list:again", "--fast"])
    assert [call.has(FAST) for call in calls] == [True, False]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("chang", "7"), 2, "Unknown command 'chang'; did you mean change?"),
        (("qqq",), 2, "Unknown command 'qqq'"),
        (("list", "again"), 2, "Unknown command 'list again'; did you mean list:again?"),
        (("change",), 2, "change: ID is missing. Usage: scalelite change 1"),
        (("change", "7", "red", "x", "maybe"), 2, "ON must be true or false, not 'maybe'"),
        (("change", "7", "--slow"), 2, "No such option: --slow"),
        (("list:again", "x"), 2, "Got unexpected extra argument (x)"),
        (("make",), 1, "Error: name it!"),
        (("make[]",), 1, "Error: name it!"),
        (("rake",), 1, "No command is named"),
        (("rake", "chang"), 1, "Don't know how to build task 'chang'; did you mean change?"),
        (("chang[7]",), 1, "Don't know how to build task 'chang'; did you mean change?"),
        (("change[7]", "--slow"), 1, "No such option: --slow"),
        (("change[7,,,maybe]",), 1, "ON must be true or false, not 'maybe'"),
        (
            ("change[7,", "red]"),
            1,
            "Don't know how to build task 'change[7,': quote the whole word, for a blank cuts it in two",
        ),
        (
            ("list", "change[7]x"),
            1,
            "Don't know how to build task 'change[7]x': quote the whole word, for a blank cuts it in two",
        ),
        (
            ("change[1,2,3,true,5]",),
            1,
            r"change takes no more than 4 arguments; a comma inside of one is written \,",
        ),
    ],
)
def test_words_that_make_no_sense_are_refused(words: tuple[str, ...], status: int, message: str) -> None:
    with pytest.raises(Failed) as caught:
        parse(SMALL, words)
    assert str(caught.value) == message
    assert caught.value.status == status


def test_one_bad_word_keeps_the_whole_rake_line_from_running() -> None:
    with pytest.raises(Failed):
        parse(SMALL, ["change[7]", "chang[8]"])


@pytest.mark.parametrize(
    "words",
    [
        ("count", "--at-most", "3"),
        ("count", "--at-most=3"),
        ("count", "--fast", "--at-most=3"),
        ("rake", "count", "--at-most=3"),
        ("count[]", "--at-most=3"),
    ],
)
def test_options_have_values_in_both_spellings(words: tuple[str, ...]) -> None:
    assert one(*words).value(NUMBER) == 3


def test_an_option_that_is_not_given_has_no_value() -> None:
    assert one("count").value(NUMBER) is None
    assert [call.value(NUMBER) for call in parse(SMALL, ["rake", "list", "count", "--at-most=4"])] == [None, 4]


@pytest.mark.parametrize(
    ("words", "text", "status"),
    [
        (("count", "--at-most", "all"), "--at-most must be a number, not 'all'", 2),
        (("rake", "count", "--at-most=all"), "--at-most must be a number, not 'all'", 1),
        (("count", "--at-most"), "Option '--at-most' requires an argument.", 2),
        (("rake", "count", "--at-most"), "--at-most needs a value: --at-most=AT-MOST", 1),
        (("rake", "list", "--at-most=3"), "No such option: --at-most=3", 1),
        (("list", "--at-most", "3"), "No such option: --at-most", 2),
    ],
)
def test_an_options_value_that_makes_no_sense_is_told(words: tuple[str, ...], text: str, status: int) -> None:
    with pytest.raises(Failed) as caught:
        parse(SMALL, words)
    assert (str(caught.value), caught.value.status) == (text, status)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command_with_what_it_is_for(words: tuple[str, ...]) -> None:
    with pytest.raises(HelpWanted) as caught:
        parse(TABLE, words)
    text = str(caught.value)
    for name, row in TABLE.items():
        assert f"  {name} " in text
        assert row.help.partition("\n")[0] in " ".join(text.split())


@pytest.mark.parametrize("name", sorted(TABLE))
@pytest.mark.parametrize("before", [True, False])
def test_help_of_a_command_shows_its_arguments_flags_and_an_example(name: str, before: bool) -> None:
    with pytest.raises(HelpWanted) as caught:
        parse(TABLE, ["help", name] if before else [name, "--help"])
    text = str(caught.value)
    assert f"scalelite {TABLE[name].example}" in text
    for argument in TABLE[name].arguments:
        assert argument.help in text
    for option in (*TABLE[name].flags, *TABLE[name].options):
        assert f"--{option.name}" in text


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_example_of_a_command_is_a_line_that_is_understood(name: str) -> None:
    words = TABLE[name].example.partition(" <")[0].split()
    (call,) = parse(TABLE, words)
    assert call.command is TABLE[name]


def test_destructive_commands_can_be_agreed_to_on_the_line() -> None:
    for row in TABLE.values():
        names = {name for flag in row.flags for name in (flag.name, *flag.aliases)}
        assert row.destructive == ("force" in names), row.name
