"""An import process: takes jobs from its standard input, tells of them on its standard output. Run by the importer.

It lasts as long as its standard input. What it is at then it finishes, even if the program is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

from scalelite.importing import build_importer
from scalelite.recordings.import_messages import (
    MAX_LINE,
    Done,
    Event,
    Job,
    Ready,
    Step,
    Trouble,
    Warned,
    decode_job,
    encode_event,
)
from scalelite.recordings.importer import Importer
from scalelite.recordings.spool import SpoolError
from scalelite.recordings.storage import StorageError
from scalelite.settings import SettingsError, load_settings
from scalelite.store.errors import StoreError

#: Requests go first.
NICENESS: Final = 10
#: Seconds between two events of one step.
TELL: Final = 0.5


class Teller:
    """Writes events; a `Watcher` of imports."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._step = ""
        self._told = 0.0

    def tell(self, event: Event) -> None:
        """Write an event, unless nobody reads them any more."""
        try:
            self._out.write(encode_event(event))
            self._out.flush()
        except BrokenPipeError:
            # The program is gone. What it is at is finished all the same.
            self._out = open(os.devnull, "wb")  # noqa: SIM115 - it lasts as long as the process

    def step(self, name: str, done: int, total: int) -> None:
        """See `Watcher.step`."""
        now = time.monotonic()
        if name != self._step or now - self._told >= TELL:
            self._step, self._told = name, now
            self.tell(Step(name, done, total))

    def warn(self, text: str) -> None:
        """See `Watcher.warn`."""
        self.tell(Warned(text))


def carry_out(importer: Importer, job: Job, teller: Teller) -> Event:
    """Do a job; what is to be told of it."""
    try:
        if job.path is None:
            importer.recover()
            return Done(None)
        return Done(importer.run(job.path, teller, force=job.force))
    except (StoreError, StorageError, SpoolError) as error:
        return Trouble(str(error))
    except OSError as error:
        return Trouble(f"{error.strerror or error}: {error.filename}")


def main() -> int:
    """Do all jobs that come. The exit status: 2 for settings that have become unusable."""
    # Away from the terminal, and not to be stopped by what is meant for the program: that closes the input.
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)
    # What any library prints must not come between events.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        importer = build_importer(load_settings(os.environ, root=Path.cwd()))
    except SettingsError as error:
        sys.stderr.write(f"the settings cannot be used: {'; '.join(error.problems)}\n")
        return 2
    teller = Teller(out)
    teller.tell(Ready())
    while line := sys.stdin.buffer.readline(MAX_LINE):
        teller.tell(carry_out(importer, decode_job(line), teller))
    return 0


if __name__ == "__main__":
    sys.exit(main())
