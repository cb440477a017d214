"""kill -9 of an import at each of its operations on files and SQL: after a restart it is carried out exactly once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.recordings.killing import SCENARIOS

MEMORY = Path("/dev/shm")
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory if there is that: it's the order of steps that matters, and there are some thousand of them."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_import_killed_at_any_step_is_carried_out_exactly_once(
    scenario: str, database_url: str, folder: Path
) -> None:
    if database_url.startswith("sqlite"):
        file = folder / "scalelite.sqlite3"
        shutil.copyfile(database_url.removeprefix("sqlite:///"), file)
        database_url = f"sqlite:///{file}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.recordings.killing", database_url, str(folder / "root"), scenario],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # Less would mean that operations are not seen any more.
    assert int(done.stdout) > 50
