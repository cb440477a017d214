"""The completion scripts in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scalelite.admin.commands import TABLE
from scalelite.admin.completion import bash, zsh

pytestmark = pytest.mark.integration

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
        ("scalelite nonsense x", "", []),
        ("scalelite completion z", "", ["zsh"]),
    ],
)
def test_bash_completes(tmp_path: Path, line: str, wordbreaks: str, expected: list[str]) -> None:
    assert complete(tmp_path, line, wordbreaks) == expected


def test_bash_completes_every_command_at_the_beginning(tmp_path: Path) -> None:
    assert set(complete(tmp_path, "scalelite ", "")) == {*TABLE, "help"}


def test_zsh_names_every_command_and_can_be_read(tmp_path: Path) -> None:
    script = tmp_path / "_scalelite"
    script.write_text(zsh(TABLE))
    for name in TABLE:
        assert name.replace(":", "\\:") in script.read_text()
    if shutil.which("zsh"):
        done = subprocess.run(["zsh", "-n", str(script)], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
