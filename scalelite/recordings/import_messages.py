"""What passes between the program and its import processes: one JSON object a line, jobs in and events out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import attrs

from scalelite.recordings.importer import Outcome, Result

#: Bytes of a line; a tar may be called by a name of 255 bytes, which become six times as many, in a long path.
MAX_LINE: Final = 64 * 1024


@attrs.frozen
class Job:
    """Import the tar at `path`; None: put in order what killed imports have left behind."""

    path: Path | None
    force: bool = False


@attrs.frozen
class Ready:
    """The process can take a job."""


@attrs.frozen
class Step:
    """What is being done, and how much of it, in bytes or formats."""

    name: str
    done: int
    total: int


@attrs.frozen
class Warned:
    """Something went wrong that did not stop the import."""

    text: str


@attrs.frozen
class Done:
    """The job is done; `outcome` is None where it was not a tar's."""

    outcome: Outcome | None


@attrs.frozen
class Trouble:
    """The job could not be done, and not for the tar's fault: `text` says why."""

    text: str


Event = Ready | Step | Warned | Done | Trouble


class NoMessage(Exception):
    """A line that is none of the above."""


def encode_job(job: Job) -> bytes:
    """A job as a line."""
    return _line({"path": None if job.path is None else str(job.path), "force": job.force})


def decode_job(line: bytes) -> Job:
    """The job of a line."""
    fields = json.loads(line)
    return Job(None if fields["path"] is None else Path(fields["path"]), fields["force"])


def encode_event(event: Event) -> bytes:
    """An event as a line."""
    fields = attrs.asdict(event)
    if isinstance(event, Done) and event.outcome is not None:
        fields["outcome"]["result"] = event.outcome.result.value
    return _line({"event": type(event).__name__, **fields})


def decode_event(line: bytes) -> Event:
    """The event of a line. Raises NoMessage."""
    try:
        fields = json.loads(line)
        match fields.pop("event"):
            case "Ready":
                return Ready()
            case "Step":
                return Step(**fields)
            case "Warned":
                return Warned(**fields)
            case "Trouble":
                return Trouble(**fields)
            case "Done":
                found = fields["outcome"]
                if found is None:
                    return Done(None)
                found |= {"result": Result(found["result"]), "formats": tuple(found["formats"])}
                return Done(Outcome(**found))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoMessage(f"an event that can't be read: {error}") from error
    raise NoMessage("an event of no known kind")


def _line(fields: dict[str, Any]) -> bytes:
    # ASCII: names of files may be in any encoding, and come back as they were.
    return json.dumps(fields, ensure_ascii=True).encode("ascii") + b"\n"
