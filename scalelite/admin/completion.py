"""The command `completion`: a script for bash or zsh that completes commands and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from scalelite.admin.table import OK, Argument, Call, Command, Context
from scalelite.admin.text import read_boolean

SHELLS: Final = ("bash", "zsh")

# In bash, a colon ends a word: what stands before it is cut off the candidates again.
_BASH: Final = """\
# bash completion for scalelite; in ~/.bashrc: source <(scalelite completion bash)
_scalelite() {
    local line="${COMP_LINE:0:COMP_POINT}" words
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    local count=${#words[@]} current="${words[${#words[@]}-1]}" candidates="" command="${words[1]}"
    if (( count <= 2 )); then
        candidates="COMMANDS help"
    elif [[ "$command" == help ]]; then
        candidates="COMMANDS"
    else
        case "$command" in
CASES
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
    if [[ "$current" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
        local prefix="${current%"${current##*:}"}" i
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]="${COMPREPLY[i]#"$prefix"}"; done
    fi
}
complete -F _scalelite scalelite
"""

_ZSH: Final = """\
#compdef scalelite
# zsh completion for scalelite; in ~/.zshrc: source <(scalelite completion zsh)
_scalelite() {
    local -a commands
    commands=(
COMMANDS
    )
    (( CURRENT == 2 )) && commands+=('help:Show the help of a command')
    if (( CURRENT == 2 )) || [[ $words[2] == help ]]; then
        _describe -t commands command commands
        return
    fi
    case $words[2] in
CASES
    esac
}
if [[ $funcstack[1] == _scalelite ]]; then
    # As a file of $fpath, it is run in place of the function that it makes.
    _scalelite "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef _scalelite scalelite
fi
"""


async def completion(context: Context, call: Call) -> int:
    """Print the script."""
    # The table holds this very command.
    from scalelite.admin.commands import TABLE

    context.console.out((bash if call.get("shell") == "bash" else zsh)(TABLE).removesuffix("\n"))
    return OK


def bash(table: Mapping[str, Command]) -> str:
    """The script for bash."""
    cases = "\n".join(f"            {name}) candidates={_quoted(' '.join(_words(table[name])))} ;;" for name in table)
    return _BASH.replace("COMMANDS", " ".join(table)).replace("CASES", cases)


def zsh(table: Mapping[str, Command]) -> str:
    """The script for zsh."""
    rows = "\n".join(f"        {_quoted(_escaped(name) + ':' + _summary(table[name]))}" for name in table)
    cases = "\n".join(f"        {name}) compadd -- {' '.join(_words(table[name]))} ;;" for name in table)
    return _ZSH.replace("COMMANDS", rows).replace("CASES", cases)


def _words(command: Command) -> list[str]:
    """The options of a command, and those values of its options and arguments that are known."""
    words = ["--help", *(f"--{name}" for flag in command.flags for name in (flag.name, *flag.aliases))]
    words += [f"--{option.name}" for option in command.options]
    words += dict.fromkeys(choice for option in command.options for choice in option.choices)
    if any(argument.read is read_boolean for argument in command.arguments):
        words += ["true", "false"]
    if any(argument.read is read_shell for argument in command.arguments):
        words += SHELLS
    return words


def _summary(command: Command) -> str:
    return command.help.partition("\n")[0].rstrip(".")


def _escaped(name: str) -> str:
    """zsh takes what follows the first bare colon for the description."""
    return name.replace(":", "\\:")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def read_shell(text: str) -> str:
    """A shell's name. Raises ValueError."""
    if text not in SHELLS:
        raise ValueError(" or ".join(SHELLS))
    return text


COMMANDS = (
    Command(
        "completion",
        completion,
        "Print a script that completes command lines.\n\n"
        "For bash, in ~/.bashrc: source <(scalelite completion bash). For zsh, the same with zsh, in ~/.zshrc.",
        "completion bash",
        (Argument("shell", "bash or zsh.", read=read_shell),),
        needs_pool=False,
        needs_settings=False,
        changes=False,
    ),
)
