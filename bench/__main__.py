"""`python -m bench`: run the comparisons and print their tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from bench.processes import LOAD_CORE
from bench.report import Figure, surroundings, table

Tables = Iterable[tuple[str, list[Figure]]]


README = Path(__file__).with_name("README.md")
HEADING = "## As measured\n\n"


def show(tables: Tables, check: bool, *, keep: bool = False) -> None:
    """Print each table as soon as it is there; exit with 1 if `check` and a figure was missed.

    `keep`: put the tables into the README as well.
    """
    texts = [surroundings()]
    print(texts[0] + "\n")
    missed = 0
    for title, figures in tables:
        texts.append(f"{table(title, figures)}\nLoad average {os.getloadavg()[0]:.1f}.")
        print(texts[-1] + "\n", flush=True)
        missed += sum(not figure.met for figure in figures)
    print(f"{missed} missed." if missed else "All met.")
    if keep:
        before = README.read_text(encoding="utf-8").partition(HEADING)[0]
        README.write_text(before + HEADING + "\n\n".join(texts) + "\n", encoding="utf-8")
    if check and missed:
        sys.exit(1)


checked = click.option("--check", is_flag=True, help="Exit with 1 if a figure is missed.")
rounds = click.option("--rounds", default=3, show_default=True, help="The best of so many rounds counts.")
seconds = click.option("--seconds", default=4, show_default=True, help="Length of one run of wrk.")


quickly = click.option("--quick", is_flag=True, help="Fewer recordings, to try it out: the figures prove nothing.")
keeping = click.option(
    "--keep",
    "kept",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the databases, which another run uses again.",
)


@click.group()
def main() -> None:
    """Compare the balancer with the least that could do the same work, each on one core."""
    os.sched_setaffinity(0, {LOAD_CORE})


@main.command()
@checked
@rounds
@seconds
def requests(check: bool, rounds: int, seconds: int) -> None:
    """index, isMeetingRunning, join and create against a bare Resource."""
    from bench.requests import measure

    show(measure(rounds, seconds), check)


@main.command()
@checked
@rounds
@seconds
def getmeetings(check: bool, rounds: int, seconds: int) -> None:
    """getMeetings over 100 slow servers, and with one of them hanging."""
    from bench.getmeetings import measure

    show(measure(rounds, seconds), check)


@main.command()
@checked
@rounds
def poll(check: bool, rounds: int) -> None:
    """A poll pass over 1,000 servers."""
    from bench.poll import measure

    show(measure(rounds), check)


@main.command()
@checked
@rounds
@seconds
def flat(check: bool, rounds: int, seconds: int) -> None:
    """join and create by size of the pool."""
    from bench.flat import measure

    show(measure(rounds, seconds), check)


@main.command()
@checked
@seconds
def memory(check: bool, seconds: int) -> None:
    """Resident memory after all kinds of requests."""
    from bench.memory import measure

    show(measure(seconds), check)


@main.command()
@checked
@rounds
def start(check: bool, rounds: int) -> None:
    """Start to first answer."""
    from bench.start import measure

    show(measure(rounds), check)


@main.command()
@checked
@rounds
def administration(check: bool, rounds: int) -> None:
    """Commands over SSH and on the command line."""
    from bench.administration import measure

    show(measure(rounds), check)


@main.command()
@checked
@rounds
def panic(check: bool, rounds: int) -> None:
    """servers:panic of a dead server, and requests meanwhile."""
    from bench.panic import measure

    show(measure(rounds), check)


@main.command()
@checked
@rounds
@seconds
@quickly
@keeping
def recordings(check: bool, rounds: int, seconds: int, quick: bool, kept: Path | None) -> None:
    """getRecordings with 10,000 and 1,000,000 recordings, and join meanwhile."""
    from bench.recordings import measure

    show(measure(rounds, seconds, quick=quick, kept=kept), check)


@main.command()
@checked
@rounds
@keeping
def streamed(check: bool, rounds: int, kept: Path | None) -> None:
    """Memory while all recordings of a tenant are sent."""
    from bench.streamed import measure

    show(measure(rounds, kept=kept), check)


@main.command()
@checked
@rounds
@quickly
def imports(check: bool, rounds: int, quick: bool) -> None:
    """Imports of 1,000 recordings, and join meanwhile."""
    from bench.imports import measure

    show(measure(rounds, quick=quick), check)


@main.command()
@checked
@rounds
@quickly
@keeping
def migration(check: bool, rounds: int, quick: bool, kept: Path | None) -> None:
    """Migration of Scalelite's database with 1,000,000 recordings."""
    from bench.migration import measure

    show(measure(rounds, quick=quick, kept=kept), check)


@main.command("all")
@checked
@rounds
@seconds
@click.option("--readme", is_flag=True, help="Put the tables into bench/README.md.")
def everything(check: bool, rounds: int, seconds: int, readme: bool) -> None:
    """All comparisons, one after another."""
    from bench import (
        administration,
        flat,
        getmeetings,
        imports,
        memory,
        migration,
        panic,
        poll,
        recordings,
        requests,
        start,
        streamed,
    )

    def tables() -> Iterator[tuple[str, list[Figure]]]:
        yield from requests.measure(rounds, seconds)
        yield from getmeetings.measure(rounds, seconds)
        yield from poll.measure(rounds)
        yield from flat.measure(rounds, seconds)
        yield from memory.measure(seconds)
        yield from start.measure(rounds)
        yield from administration.measure(rounds)
        yield from panic.measure(rounds)
        yield from recordings.measure(rounds, seconds)
        yield from streamed.measure(rounds)
        yield from imports.measure(rounds)
        yield from migration.measure(rounds)

    show(tables(), check, keep=readme)


@main.command()
@click.argument(
    "kind", type=click.Choice(["index", "unknown", "join", "proxied", "create", "create-new", "getmeetings", "poll"])
)
@click.option("--lines", default=30, show_default=True, help="How many functions are shown.")
@click.option("--order", default="tottime", show_default=True, help="How they are sorted: tottime, cumulative, ncalls.")
@seconds
def profile(kind: str, lines: int, order: str, seconds: int) -> None:
    """Show which functions one kind of request spends its time in."""
    from bench.profile import run

    print(run(kind, seconds, lines, order))


if __name__ == "__main__":
    main()
