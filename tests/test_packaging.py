"""The wheel holds what an installation needs, and `twistd` finds the balancer in it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.integration.requirements import missing

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PLUGIN = "twisted/plugins/scalelite_plugin.py"


@pytest.fixture(scope="module")
def installed() -> set[str]:
    """Paths of the installed distribution's files, relative to site-packages; demands that it is a wheel's."""
    try:
        files = metadata.files("scalelite") or []
    except metadata.PackageNotFoundError:
        missing("the balancer is not installed in this environment")
    names = {str(file) for file in files}
    if "scalelite/__init__.py" not in names:
        missing("the balancer is installed as a link to its sources")
    return names


def from_elsewhere(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment in another folder, so that it can't see the sources."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_wheel_holds_every_module_script_and_marker(installed: set[str]) -> None:
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "scalelite").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"scalelite/py.typed", "scalelite/store/lua/reserve_meeting.lua"} <= sources
    assert sources - installed == set()


def test_wheel_holds_the_drop_in_and_the_licence_but_no_tests(installed: set[str]) -> None:
    assert PLUGIN in installed
    assert any(name.endswith("licenses/LICENSE") for name in installed)
    tops = {name.split("/")[0] for name in installed if not name.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"scalelite", "twisted"}


def test_twistd_lists_the_balancer(installed: set[str], tmp_path: Path) -> None:
    shown = from_elsewhere(tmp_path, str(BIN / "twistd"), "--help")
    assert shown.returncode == 0, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if line.split()[:1] == ["scalelite"]]
    assert "BigBlueButton" in line


def test_twistd_knows_the_options_of_the_balancer(installed: set[str], tmp_path: Path) -> None:
    shown = from_elsewhere(tmp_path, str(BIN / "twistd"), "scalelite", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--demo" in shown.stdout


def test_command_line_is_installed(installed: set[str], tmp_path: Path) -> None:
    shown = from_elsewhere(tmp_path, str(BIN / "scalelite"), "--help")
    assert shown.returncode == 0, shown.stderr
    assert "servers" in shown.stdout


def test_package_that_is_installed_is_the_one_that_is_tested(installed: set[str]) -> None:
    import scalelite

    assert ROOT not in Path(str(scalelite.__file__)).parents or ".tox" in Path(str(scalelite.__file__)).parts


def test_wheel_is_built_from_the_source_distribution_alone(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.sdist", reason="hatchling is not in this environment")
    (archive,) = builder.SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    subprocess.run(["tar", "-xf", archive, "-C", str(tmp_path)], check=True)
    (unpacked,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(unpacked)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {PLUGIN, "scalelite/py.typed", "scalelite/store/lua/common.lua"} <= names
    assert "scalelite/recordings/migrations/versions/v0001_scalelite.py" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]
