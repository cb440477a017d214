"""Imports all that waits in a spool, as one of several programs do at once: `python -m tests.recordings.contending`."""

from __future__ import annotations

import sys
from pathlib import Path

from scalelite.recordings.importer import Result
from tests.recordings.importing import Site
from tests.recordings.killing import count_imports


def main(url: str, root: str) -> None:
    count_imports()
    site, imported = Site(Path(root), url), 0
    while waiting := site.spool.waiting():
        for path in waiting:
            outcome = site.importer().run(path, site.notes)
            assert outcome.result in (Result.IMPORTED, Result.TAKEN), outcome
            imported += outcome.result is Result.IMPORTED
    assert site.notes.warnings == []
    sys.stdout.write(f"{imported}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
