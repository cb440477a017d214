"""Signals that end a command which runs for ever, in a process of the operator's own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


@contextmanager
def end_signals(reactor: Any, signalled: Deferred[str]) -> Iterator[None]:
    """The first SIGTERM or SIGINT fires `signalled` with its name, and does nothing else."""

    def tell(name: str) -> None:
        if not signalled.called:
            signalled.callback(name)

    def handle(number: int, _frame: object) -> None:
        reactor.callFromThread(tell, signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
