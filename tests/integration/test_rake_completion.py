"""The completion scripts in the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelite.admin.commands import TABLE
from scalelite.admin.completion import bash, zsh
from tests.integration.requirements import require

pytestmark = pytest.mark.integration

#: Seconds that a shell may take before the test gives up.
PATIENCE = 30

ASK = """\
COMP_LINE="$1"; COMP_POINT=${#1}
read -ra COMP_WORDS <<< "$1"
_scalelite
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(tmp_path: Path, line: str, wordbreaks: str) -> list[str]:
    script = tmp_path / "completion.bash"
    script.write_text(bash(TABLE) + f"COMP_WORDBREAKS='{wordbreaks}'\n" + ASK)
    done = subprocess.run(["bash", str(script), line], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return sorted(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize(
    ("line", "wordbreaks", "expected"),
    [
        ("scalelite sta", "", ["status"]),
        ("scalelite servers:d", "", ["servers:disable", "servers:drain"]),
        ("scalelite servers:d", ":", ["disable", "drain"]),
        ("scalelite status --j", "", ["--json"]),
        ("scalelite servers:panic s1 t", "", ["true"]),
        ("scalelite help wat", "", ["watch"]),
        ("scalelite recordings:list --st", "", ["--state"]),
        ("scalelite recordings:list --state unp", "", ["unpublished"]),
        ("scalelite nonsense x", "", []),
        ("scalelite completion z", "", ["zsh"]),
    ],
)
def test_bash_completes(tmp_path: Path, line: str, wordbreaks: str, expected: list[str]) -> None:
    assert complete(tmp_path, line, wordbreaks) == expected


def test_bash_completes_every_command_at_the_beginning(tmp_path: Path) -> None:
    assert set(complete(tmp_path, "scalelite ", "")) == {*TABLE, "help"}


# A key that completes, and then tells the line as it is now and what was offered: what zsh's own functions add for
# themselves (-O, -A, -D) is not offered to anybody.
ZSH_SETUP = """\
PROMPT= RPROMPT= PROMPT_EOL_MARK= LISTMAX=1000
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\\ * ]]; then
        local -a added
        builtin compadd -O added "$@"
        offered+=("${added[@]}")
    fi
    builtin compadd "$@"
}
tell() {
    offered=()
    zle expand-or-complete
    print -r -- "LINE<$BUFFER>" "OFFERED<${offered[*]}>"
    BUFFER=
}
zle -N tell
bindkey "^T" tell
print READY
"""


class Zsh:
    """An interactive zsh on a terminal, without anybody's configuration; `load` makes the completion known."""

    def __init__(self, folder: Path, load: str) -> None:
        setup = folder / "setup.zsh"
        setup.write_text(f"autoload -Uz compinit && compinit -D\n{load}\n{ZSH_SETUP}")
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execve(str(shutil.which("zsh")), ["zsh", "-f", "-i"], environ)
        self._seen = ""
        self._type(f"source {setup}\n")
        self._read(r"READY\r\n")

    def complete(self, line: str) -> tuple[str, list[str]]:
        """The line after Tab, and what was offered."""
        self._type(f"{line}\x14")
        found = self._read(r"LINE<(.*?)> OFFERED<(.*?)>\r\n")
        return found[1], found[2].split()

    def close(self) -> None:
        os.close(self._terminal)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self._seen)) is None:
            if not select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"zsh says nothing more after {self._seen!r}")
            self._seen += os.read(self._terminal, 65_536).decode()
        self._seen = self._seen[found.end() :]
        return found


@pytest.fixture(params=["sourced", "in fpath"])
def zsh_shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Zsh]:
    require("zsh")
    (tmp_path / "_scalelite").write_text(zsh(TABLE))
    in_fpath = f"fpath=({tmp_path} $fpath); autoload -Uz _scalelite; compdef _scalelite scalelite"
    shell = Zsh(tmp_path, f"source {tmp_path}/_scalelite" if request.param == "sourced" else in_fpath)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("line", "completed", "offered"),
    [
        ("scalelite sta", "scalelite status ", ["status"]),
        ("scalelite servers:d", "scalelite servers:d", ["servers:disable", "servers:drain"]),
        ("scalelite servers:pa", "scalelite servers:panic ", ["servers:panic"]),
        ("scalelite status --j", "scalelite status --json ", ["--json"]),
        ("scalelite servers:panic s1 t", "scalelite servers:panic s1 true ", ["true"]),
        ("scalelite help wat", "scalelite help watch ", ["watch"]),
        ("scalelite nonsense x", "scalelite nonsense x", []),
        ("scalelite completion z", "scalelite completion zsh ", ["zsh"]),
    ],
)
def test_zsh_completes(zsh_shell: Zsh, line: str, completed: str, offered: list[str]) -> None:
    assert zsh_shell.complete(line) == (completed, offered)
    # Once more: the first time, the function may only have been made.
    assert zsh_shell.complete(line) == (completed, offered)


def test_zsh_completes_every_command_at_the_beginning(zsh_shell: Zsh) -> None:
    assert set(zsh_shell.complete("scalelite ")[1]) == {*TABLE, "help"}
