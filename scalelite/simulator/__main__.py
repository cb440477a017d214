"""`python -m scalelite.simulator`: one process that is any number of BigBlueButton servers."""

from __future__ import annotations

import gc
import json
import resource
import sys
from typing import cast

import click
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore
from twisted.python.failure import Failure

from scalelite.simulator.listening import Listener
from scalelite.simulator.profiles import PROFILES
from scalelite.simulator.simulator import ISimulatorReactor, Simulator

MAX_NODES = 1000
OPEN_FILES = 65536


def _ports(single: tuple[int, ...], ranges: tuple[str, ...]) -> list[int]:
    ports = list(single)
    for text in ranges:
        first, _, last = text.partition("-")
        if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) < 65536):
            raise click.BadParameter(f"{text!r} is not FIRST-LAST", param_hint="--ports")
        ports += range(int(first), int(last) + 1)
    if len(ports) > MAX_NODES:
        raise click.BadParameter(f"at most {MAX_NODES} nodes", param_hint="--ports")
    return ports or [0]


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@click.command()
@click.option("--port", "single", type=click.IntRange(0, 65535), multiple=True, help="A port; may be repeated. 0: any.")
@click.option("--ports", "ranges", multiple=True, metavar="FIRST-LAST", help="A node on each port of a range.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--secret", default="secret", show_default=True, help="The shared secret of the nodes.")
@click.option("--profile", type=click.Choice(list(PROFILES)), default="3.0", show_default=True, help="The version.")
@click.option("--scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="How many times as fast as real time meetings live.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds give equal ids and accidents.")
@click.option("--meetings", type=click.IntRange(0, 5000), default=0, help="Meetings to begin with, on each node.")
@click.option("--attendees", type=click.IntRange(0, 1000), default=0, help="Users in each of those.")
@click.option("--delay", type=click.FloatRange(0), default=0.0, help="Milliseconds by which every answer is late.")
@click.option("--tls", is_flag=True, help="Speak TLS, with a self-signed certificate.")
@click.option("--control-secret", default="", help="Bearer token of the control API, which is then open to all hosts.")
@click.option("--control-port", type=click.IntRange(0, 65535), help="A port for the control API alone.")
@click.option("--print-ports", is_flag=True, help="Print a line of JSON with the ports when ready.")
def main(
    single: tuple[int, ...],
    ranges: tuple[str, ...],
    host: str,
    secret: str,
    profile: str,
    scale: float,
    seed: int,
    meetings: int,
    attendees: int,
    delay: float,
    tls: bool,
    control_secret: str,
    control_port: int | None,
    print_ports: bool,
) -> None:
    """Simulate BigBlueButton servers; every port has a control API under /_sim/."""
    from twisted.internet import reactor as installed

    ports = _ports(single, ranges)
    _raise_file_limit()
    reactor, core = cast(ISimulatorReactor, installed), cast(IReactorCore, installed)
    simulator = Simulator(reactor, seed=seed, control_secret=control_secret)
    control: Listener | None = None
    failures: list[str] = []

    async def start() -> None:
        nonlocal control
        for port in ports:
            node = await simulator.add_node(
                secret=secret, profile=profile, port=port, host=host, scale=scale, delay=delay / 1000, tls=tls
            )
            node.fill(meetings, attendees)
        report: dict[str, object] = {"ports": [node.port for node in simulator.nodes]}
        if control_port is not None:
            control = await simulator.listen_for_control(control_port, host)
            report["control"] = control.port
        gc.freeze()
        gc.set_threshold(50000, 50, 50)
        if print_ports:
            click.echo(json.dumps(report))
        else:
            shown = ", ".join(node.url for node in simulator.nodes[:3])
            click.echo(f"{len(ports)} BigBlueButton {profile}: {shown}{' ...' if len(ports) > 3 else ''}")
        sys.stdout.flush()

    def failed(failure: Failure) -> None:
        known = failure.check(CannotListenError)
        failures.append(str(failure.value) if known else failure.getTraceback())
        core.stop()

    def begin() -> None:
        Deferred.fromCoroutine(start()).addErrback(failed)

    # SIGTERM and SIGINT stop the reactor, which waits for this.
    core.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(simulator.stop()))
    core.callWhenRunning(begin)
    core.run()
    if failures:
        raise click.ClickException(failures[0])


if __name__ == "__main__":
    main()
