"""What the integration tests need besides Python packages that they are installed with.

A missing part skips the tests that need it, on a developer's machine. Where `SCALELITE_REQUIRE_INTEGRATION` is set, as
in CI, it fails them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import NoReturn

import pytest


def require(*commands: str) -> None:
    """Demand that these commands are on the path."""
    _demand("command", [command for command in commands if shutil.which(command) is None])


def require_packages(*modules: str) -> None:
    """Demand these Python packages, by the name they are imported by."""
    _demand("package", [module for module in modules if importlib.util.find_spec(module) is None])


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where everything must be there."""
    if os.environ.get("SCALELITE_REQUIRE_INTEGRATION"):
        pytest.fail(what)
    pytest.skip(what)


def _demand(kind: str, absent: list[str]) -> None:
    if absent:
        missing(f"not installed here: {kind} {', '.join(absent)}")
