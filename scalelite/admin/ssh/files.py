"""Reading a file that may be anything by now, without waiting for it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class NotAFile(OSError):
    """A path that leads to something else."""


def read_file(path: Path, largest: int) -> tuple[bytes, os.stat_result]:
    """At most `largest` bytes of a file, and its state. Raises OSError; NotAFile for a folder, a FIFO, a device."""
    # Without O_NONBLOCK, to open a FIFO is to wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise NotAFile(f"{path} is not a file")
        content = b""
        while len(content) < largest and (piece := os.read(descriptor, largest - len(content))):
            content += piece
    finally:
        os.close(descriptor)
    return content, state
