"""Kills an import at its N-th operation on files or SQL, for every N, and looks at what a restart makes of it.

Run as a program, since it forks: `python -m tests.recordings.killing DATABASE_URL FOLDER SCENARIO`. Prints how many
operations there were; ends with a traceback at the first N that leaves anything wrong.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, event, func, insert, select

from scalelite.recordings import folders, importer
from scalelite.recordings.importer import Result
from scalelite.recordings.tables import outbox, playback_formats, recordings
from tests.recordings.importing import Site
from tests.recordings.tars import Member, metadata_xml, recording

FORMATS = ("presentation", "video")
_OPERATIONS = (
    "open", "rename", "replace", "link", "unlink", "remove", "rmdir", "mkdir", "write", "fsync", "fchmod", "chmod",
    "chown", "fchown",
)  # fmt: skip

#: One row for each commit of an import: what is to happen exactly once.
carried_out = Table("test_carried_out", MetaData(), Column("id", Integer, primary_key=True), Column("record", String))


class Countdown:
    """Kills this process at the operation whose turn it is; counts on otherwise."""

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self.count = 0

    def tick(self, *_: Any, **__: Any) -> None:
        if self.count == self._turn:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return function(*args, **kwargs)

        return counted

    def install(self, site: Site) -> None:
        for name in _OPERATIONS:
            setattr(os, name, self.before(getattr(os, name)))
        builtins.open = io.open = self.before(open)  # type: ignore[assignment]
        folders.exchange = self.before(folders.exchange)
        for name in ("before_cursor_execute", "after_cursor_execute", "commit", "rollback"):
            event.listen(site.engine, name, self.tick)


def notify(connection: Any, *, record_id: str, **rest: Any) -> None:
    connection.execute(insert(carried_out).values(record=record_id))
    ENQUEUE(connection, record_id=record_id, **rest)


ENQUEUE = importer.enqueue_recording_ready


def count_imports() -> None:
    """Have each import of this process leave a row in `carried_out`."""
    importer.enqueue_recording_ready = notify


def old(record_id: str) -> list[Member]:
    return recording({name: metadata_xml(name, record_id) for name in FORMATS}, record_id, text="old")


def new(record_id: str, **fields: str) -> list[Member]:
    documents = {name: metadata_xml(name, record_id, name="new", fields=fields) for name in FORMATS}
    return recording(documents, record_id, text="new")


class Scenario:
    """What there is before, the tar, and what must be there in the end."""

    #: How often the tar's import is carried out in the end.
    times = 1
    #: What readers may find of each format while the process is dead.
    seen: frozenset[str | None] = frozenset({None, "new"})
    exchange = True

    def before(self, site: Site, record_id: str) -> None:
        pass

    def tar(self, record_id: str) -> list[Member]:
        return new(record_id)

    def end(self, record_id: str) -> tuple[str, dict[str, str], list[str]]:
        """The recording's name, its files, and what is left in the spool."""
        return "new", {f"published/{name}": "new" for name in FORMATS}, []


class Again(Scenario):
    seen = frozenset({"old", "new"})

    def before(self, site: Site, record_id: str) -> None:
        site.run(old(record_id), record_id)


class AgainWithoutExchange(Again):
    exchange = False
    # Where the filesystem can't exchange folders, there is a moment between two renames.
    seen = frozenset({"old", "new", None})


class OtherSide(Again):
    def tar(self, record_id: str) -> list[Member]:
        return new(record_id, published="false", state="unpublished")

    def end(self, record_id: str) -> tuple[str, dict[str, str], list[str]]:
        return "new", {f"unpublished/{name}": "new" for name in FORMATS}, []


class Failing(Again):
    times = 0
    seen = frozenset({"old"})

    def tar(self, record_id: str) -> list[Member]:
        documents = {"presentation": metadata_xml(record_id=record_id, name="new"), "video": b"<broken"}
        return recording(documents, record_id, text="new")

    def end(self, record_id: str) -> tuple[str, dict[str, str], list[str]]:
        left = [f"spool/failed/{record_id}.json", f"spool/failed/{record_id}.tar"]
        return "Algebra", {f"published/{name}": "old" for name in FORMATS}, left


SCENARIOS: dict[str, type[Scenario]] = {
    "new": Scenario,
    "again": Again,
    "again without exchange": AgainWithoutExchange,
    "other side": OtherSide,
    "failing": Failing,
}


def killed(site: Site, path: Path, turn: int) -> bool:
    """Import in a child that is killed at that turn; False if it got to its end before."""
    site.engine.dispose()
    child = os.fork()
    if child == 0:
        try:
            countdown = Countdown(turn)
            countdown.install(site)
            site.importer().run(path, site.notes)
        except BaseException:  # noqa: BLE001 - said by the status
            import traceback

            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, f"the import failed by itself at {turn}"
    return False


def restart(site: Site) -> None:
    """What a new process does: put things in order, and import all that waits."""
    site.time += 10 * 86_400
    service = site.importer()
    service.recover()
    for path in site.spool.waiting():
        outcome = service.run(path, site.notes)
        assert outcome.result in (Result.IMPORTED, Result.REPEATED, Result.FAILED), outcome
    assert site.notes.warnings == []


def text_of(site: Site, record_id: str, name: str) -> str | None:
    for published in (True, False):
        path = site.storage.path(name, record_id, published=published) / "slides" / "1.svg"
        if path.exists():
            return path.read_text()
    return None


def check(site: Site, scenario: Scenario, record_id: str, times: int) -> None:
    name, files, left = scenario.end(record_id)
    (row,) = site.rows(recordings, record_id=record_id)
    assert row["name"] == name, row
    assert len(site.rows(playback_formats, recording_id=row["id"])) == len(FORMATS)
    assert row["published"] == any(key.startswith("published/") for key in files)
    assert site.files(record_id) == files, site.files(record_id)
    assert site.left() == left, site.left()
    assert site.noted == []
    with site.engine.connect() as connection:
        query = select(func.count()).select_from(carried_out).where(carried_out.c.record == record_id)
        assert connection.execute(query).scalar_one() == times
    assert len(site.rows(outbox, record_id=record_id)) == 1


def main(url: str, root: str, name: str) -> None:
    count_imports()
    scenario = SCENARIOS[name]()
    if not scenario.exchange:
        folders.exchange = lambda one, other: False
    site = Site(Path(root), url)
    carried_out.metadata.create_all(site.engine)
    turn, again = 0, True
    while again:
        record_id = f"rec-{turn}"
        scenario.before(site, record_id)
        before = 1 if isinstance(scenario, Again) else 0
        path = site.put(scenario.tar(record_id), record_id)
        again = killed(site, path, turn)
        for playback_format in FORMATS:
            text = text_of(site, record_id, playback_format)
            assert text in scenario.seen, f"killed at {turn}: {playback_format} is {text}"
        try:
            restart(site)
            check(site, scenario, record_id, before + scenario.times)
        except BaseException:
            sys.stderr.write(f"killed at {turn}\n")
            raise
        for rest in (site.spool.folder / "failed").iterdir():
            rest.unlink()
        turn += 1
    sys.stdout.write(f"{turn - 1}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
