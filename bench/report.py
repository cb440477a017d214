"""Figures: what was measured, what is wanted, and how they are printed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import attrs

from bench.postgres import binaries
from bench.processes import BenchError

LIBRARIES = (
    "Twisted",
    "klein",
    "treq",
    "lxml",
    "orjson",
    "txredisapi",
    "hiredis",
    "pyOpenSSL",
    "attrs",
    "SQLAlchemy",
    "psycopg",
)


@attrs.frozen
class Figure:
    """One line of a table. `wanted` None: for information; `at_least`: whether more is better."""

    name: str
    value: float
    wanted: float | None = None
    at_least: bool = False
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the value is what is wanted."""
        if self.wanted is None:
            return True
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted

    def cells(self) -> tuple[str, str, str, str, str]:
        """Name, value, wanted value, verdict, note."""
        unit = f" {self.unit}" if self.unit else ""
        wanted = "" if self.wanted is None else f"{'≥' if self.at_least else '≤'} {self.wanted:.4g}{unit}"
        verdict = "" if self.wanted is None else "yes" if self.met else "**no**"
        digits = 1 if abs(self.value) >= 10 else 3 if abs(self.value) < 1 else 2
        return self.name, f"{self.value:.{digits}f}{unit}", wanted, verdict, self.note


def table(title: str, figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table, its columns aligned for a terminal."""
    rows = [("figure", "measured", "wanted", "met", "notes"), *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return f"### {title}\n\n" + "\n".join(lines) + "\n"


def surroundings() -> str:
    """Versions, processor and load of the machine."""
    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = cpu[1] if cpu else platform.machine()
    programs = [_redis_version(), _postgres_version(), _wrk_version()]
    return (
        f"Python {platform.python_version()}, {', '.join((*versions, *programs))}; "
        f"{os.cpu_count()} cores ({model}), Linux {platform.release().partition('-')[0]}."
    )


def _redis_version() -> str:
    text = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    return "redis-server " + text.partition("v=")[2].split()[0]


def _postgres_version() -> str:
    try:
        program = binaries() / "postgres"
    except BenchError:
        return "no PostgreSQL"
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return "PostgreSQL " + text.split()[2]


def _wrk_version() -> str:
    # It exits with 1 after its version.
    text = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return " ".join(text.split()[:2])
