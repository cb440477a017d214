"""From words to calls: `servers:add URL SECRET`, and rake's `servers:add[URL,SECRET]`, several of them on a line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import click

from scalelite.admin.table import FAILED, MISUSED, Argument, Call, Command, Failed, Flag, Option

Table = Mapping[str, Command]

_BRACKETED: Final = re.compile(r"([^\[\]]+)\[(.*)\]", re.DOTALL)
_HELP: Final = frozenset({"help", "--help", "-h"})
#: Columns for a task's name and arguments where tasks are listed; a longer one pushes its line's text to the right.
_WIDEST_TASK: Final = 60
_TASKS: Final = frozenset({"-T", "--tasks", "-h", "--help"})
_SUMMARY: Final = """\
Administers a pool of BigBlueButton servers.

The settings are those of the service: environment variables (see `config`).
"""
_EPILOG: Final = """\
\b
The spelling of rake works as well, several commands on a line, too:
  scalelite 'servers:add[https://bbb1.example.com/bigbluebutton/api,SECRET]'
  scalelite rake servers status
"""


class HelpWanted(Exception):
    """Not a command but a question; the message is the answer."""


def parse(table: Table, words: Sequence[str], program: str = "scalelite") -> list[Call]:
    """The calls that a line asks for, in order. Raises HelpWanted, or Failed for what can't be understood."""
    if not words:
        raise HelpWanted(_group(table).get_help(click.Context(_group(table), info_name=program)))
    if words[0] in _HELP:
        words = (*words[1:2], "--help")
    if words[0] == "rake":
        return _rake_calls(table, words[1:])
    if _in_rake_spelling(table, words):
        return _rake_calls(table, words)
    return [_plain_call(table, words, program)]


def _in_rake_spelling(table: Table, words: Sequence[str]) -> bool:
    if "[" in words[0]:
        return True
    # A command without arguments that is followed by more commands: only rake takes several.
    names = [word.partition("[")[0] for word in words if not word.startswith("-")]
    first = table.get(words[0])
    return first is not None and not first.arguments and len(names) > 1 and all(name in table for name in names)


# rake's spelling


def _rake_calls(table: Table, words: Sequence[str]) -> list[Call]:
    if words and words[0] in _TASKS:
        raise HelpWanted("\n".join(_task_lines(table)))
    given = [word for word in words if word.startswith("--")]
    tasks = [_task(table, word) for word in words if not word.startswith("--")]
    if not tasks:
        raise Failed("No command is named")
    flags, options = _rake_options([command for command, _ in tasks], given)
    return [
        Call(
            command,
            _values(command, pieces, strict=False),
            frozenset(flag.name for flag in command.flags if flag.name in flags),
            rake=True,
            options={option.name: options[option.name] for option in command.options if option.name in options},
        )
        for command, pieces in tasks
    ]


def _rake_options(commands: Sequence[Command], words: Sequence[str]) -> tuple[set[str], dict[str, Any]]:
    """The names of the flags, and the options' values; each is for all commands of the line that know it."""
    flags = {name: flag for command in commands for flag in command.flags for name in _names(flag)}
    known = {f"--{option.name}": option for command in commands for option in command.options}
    options = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in known:
            if not equals:
                raise Failed(f"{name} needs a value: {name}={known[name].name.upper()}")
            options[known[name].name] = _option_value(known[name], value, FAILED)
        elif word not in flags:
            raise Failed(f"No such option: {word}")
    return {flags[word].name for word in words if word in flags}, options


def _task_lines(table: Table) -> list[str]:
    """All tasks with their arguments, as `rake -T` lists them."""
    tasks = {}
    for command in table.values():
        arguments = ",".join(argument.name for argument in command.arguments)
        tasks[f"rake {command.name}{f'[{arguments}]' if arguments else ''}"] = command.help.partition("\n")[0]
    column = min(max(map(len, tasks)), _WIDEST_TASK)
    return [f"{task:{column}}  # {what}" for task, what in sorted(tasks.items())]


def _task(table: Table, word: str) -> tuple[Command, list[str]]:
    bracketed = _BRACKETED.fullmatch(word)
    name = bracketed[1] if bracketed else word
    if bracketed is None and ("[" in word or word.endswith("]")):
        raise Failed(f"Don't know how to build task '{word}': quote the whole word, for a blank cuts it in two")
    command = table.get(name)
    if command is None:
        raise Failed(f"Don't know how to build task '{name}'{_suggestion(table, name)}")
    pieces = rake_pieces(bracketed[2]) if bracketed else []
    while len(pieces) > len(command.arguments) and not pieces[-1]:
        pieces.pop()
    if len(pieces) > len(command.arguments) and not _takes_many(command):
        raise Failed(
            f"{name} takes no more than {len(command.arguments)} arguments; a comma inside of one is written \\,"
        )
    return command, pieces


def _takes_many(command: Command) -> bool:
    return bool(command.arguments) and command.arguments[-1].many


def rake_pieces(text: str) -> list[str]:
    """What stands between a task's brackets: cut at commas, blanks trimmed; a backslash takes the next character."""
    pieces: list[str] = []
    piece: list[str] = []
    # How much of the piece is not to be trimmed: up to its last escaped character, or the last that is no blank.
    kept = 0
    characters = iter(text)
    for character in characters:
        if character == ",":
            pieces.append("".join(piece[:kept]))
            piece, kept = [], 0
        elif character == "\\":
            piece.append(next(characters, "\\"))
            kept = len(piece)
        elif piece or not character.isspace():
            piece.append(character)
            kept = kept if character.isspace() else len(piece)
    return [*pieces, "".join(piece[:kept])]


# The plain spelling


def _plain_call(table: Table, words: Sequence[str], program: str) -> Call:
    group = _group(table)
    joined = ":".join(words[:2])
    if len(words) > 1 and joined in table and words[0] in table and not table[words[0]].arguments:
        raise Failed(f"Unknown command '{words[0]} {words[1]}'; did you mean {joined}?", MISUSED)
    try:
        call: Call = group.main(list(words), program, standalone_mode=False)
    except click.NoSuchOption as error:
        raise Failed(f"No such option: {error.option_name}", MISUSED) from None
    except click.UsageError as error:
        raise Failed(_one_line(error.format_message()), MISUSED) from None
    return call


class _Group(click.Group):
    """The whole table as click sees it."""

    def __init__(self, table: Table) -> None:
        super().__init__(help=_SUMMARY, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = self._table.get(cmd_name)
        return None if command is None else _click_command(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._table and not args[0].startswith("-"):
            raise Failed(f"Unknown command '{args[0]}'{_suggestion(self._table, args[0])}", MISUSED)
        return super().resolve_command(ctx, args)

    def get_help_option(self, ctx: click.Context) -> click.Option:
        return _help_option()


class _Command(click.Command):
    def get_help_option(self, ctx: click.Context) -> click.Option:
        return _help_option()


def _group(table: Table) -> click.Group:
    return _Group(table)


def _click_command(command: Command) -> click.Command:
    def call(**given: Any) -> Call:
        words: list[str | None] = []
        for argument in command.arguments:
            words += given[argument.name] if argument.many else [given.get(argument.name)]
        flags = frozenset(flag.name for flag in command.flags if given[_identifier(flag)])
        options = {
            option.name: _option_value(option, word, MISUSED)
            for option in command.options
            if (word := given[_identifier(option)]) is not None
        }
        return Call(command, _values(command, words, strict=True), flags, options=options)

    parameters: list[click.Parameter] = [
        click.Argument(
            [argument.name],
            required=False,
            nargs=-1 if argument.many else 1,
            type=click.UNPROCESSED,
            metavar=_metavar(argument),
        )
        for argument in command.arguments
    ]
    parameters += [
        click.Option([_identifier(flag), *_names(flag)], is_flag=True, help=flag.help) for flag in command.flags
    ]
    parameters += [
        click.Option(
            [_identifier(option), f"--{option.name}"],
            type=click.UNPROCESSED,
            metavar=option.name.upper(),
            help=option.help,
        )
        for option in command.options
    ]
    arguments = "".join(f"  {argument.name.upper():<16}{argument.help}\n" for argument in command.arguments)
    described = f"\n\n\b\n{arguments}" if arguments else ""
    return _Command(
        command.name,
        params=parameters,
        callback=call,
        help=f"{command.help}{described}",
        epilog=f"\b\nExample:\n  scalelite {command.example}",
        short_help=command.help.partition("\n")[0],
    )


def _metavar(argument: Argument) -> str:
    name = argument.name.upper() + ("..." if argument.many else "")
    return name if argument.required else f"[{name}]"


def _help_option() -> click.Option:
    def show(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
        if wanted:
            raise HelpWanted(ctx.get_help())

    return click.Option(
        ["-h", "--help"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show this message."
    )


# What both have in common


def _values(command: Command, words: Sequence[str | None], *, strict: bool) -> dict[str, Any]:
    """The arguments by name, those that were not given left out."""
    values: dict[str, Any] = {}
    status = MISUSED if strict else FAILED
    for place, argument in enumerate(command.arguments):
        given = words[place:] if argument.many else words[place : place + 1]
        read = [_value(argument, word, status) for word in given if word is not None and _counts(argument, word)]
        if read:
            values[argument.name] = tuple(read) if argument.many else read[0]
    missing = [argument for argument in command.arguments if argument.required and argument.name not in values]
    if missing and command.missing is not None:
        raise Failed(command.missing)
    if missing and strict:
        _misuse(f"{command.name}: {missing[0].name.upper()} is missing. Usage: scalelite {command.example}")
    return values


def _counts(argument: Argument, word: str) -> bool:
    """Whether a word gives the argument a value."""
    return not (argument.skippable and word == "-") and (bool(word) or argument.keeps_empty)


def _value(argument: Argument, word: str, status: int) -> Any:
    try:
        return argument.read(word)
    except ValueError as error:
        raise Failed(f"{argument.name.upper()} must be {error}, not '{word}'", status) from None


def _option_value(option: Option, word: str, status: int) -> Any:
    try:
        return option.read(word)
    except ValueError as error:
        raise Failed(f"--{option.name} must be {error}, not '{word}'", status) from None


def _misuse(message: str) -> NoReturn:
    raise Failed(message, MISUSED)


def _names(flag: Flag) -> tuple[str, ...]:
    return tuple(f"--{name}" for name in (flag.name, *flag.aliases))


def _identifier(option: Flag | Option) -> str:
    return "option_" + option.name.replace("-", "_")


def _suggestion(table: Table, word: str) -> str:
    near = difflib.get_close_matches(word, table, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
