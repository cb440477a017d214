"""`python -m bench`: run the comparisons and print their tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from bench.report import Figure, surroundings, table


def show(tables: Iterable[tuple[str, list[Figure]]], check: bool) -> None:
    """Print each table as soon as it is there; exit with 1 if `check` and a figure was missed."""
    print(surroundings() + "\n")
    missed = 0
    for title, figures in tables:
        print(table(title, figures), flush=True)
        missed += sum(not figure.met for figure in figures)
    print(f"{missed} missed; {surroundings().rpartition(';')[2].strip()}" if missed else "All met.")
    if check and missed:
        sys.exit(1)


checked = click.option("--check", is_flag=True, help="Exit with 1 if a figure is missed.")
rounds = click.option("--rounds", default=3, show_default=True, help="The best of so many rounds counts.")
seconds = click.option("--seconds", default=4.0, show_default=True, help="Length of one run of wrk.")


@click.group()
def main() -> None:
    """Compare the balancer with the least that could do the same work, on one core each."""


@main.command()
@checked
@rounds
@seconds
def requests(check: bool, rounds: int, seconds: float) -> None:
    """index, isMeetingRunning, join and create against a bare Resource."""
    from bench.requests import measure

    show(measure(rounds, seconds), check)


if __name__ == "__main__":
    main()
