"""The log of events: one JSON line each, or short lines for people on a terminal; never a secret."""

from __future__ import annotations

import os
import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import attrs
import orjson
from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python.failure import Failure
from twisted.python.reflect import fullyQualifiedName, namedAny
from zope.interface import implementer

from scalelite.settings import Settings

MAX_FIELD: Final = 2000
MAX_MESSAGE: Final = 8000
MAX_TRACEBACK: Final = 20_000
#: Configured secrets shorter than this are too much like words to be looked for in the text of events.
_SHORTEST_SECRET: Final = 8

_LEVELS: Final = {level.name: rank for rank, level in enumerate(LogLevel.iterconstants())}
_HIDDEN = re.compile(
    r"((?:checksum|[\w-]*(?:password|passwd|passcode|pw|secrets?|token))=)[^&\s\"'<>)\]]+|(://[^/\s:@]*:)[^@/\s]+(?=@)",
    re.IGNORECASE,
)
# What twisted.logger and its predecessor put into an event for themselves.
_INTERNAL: Final = frozenset({"format", "isError", "message", "printed", "system", "time", "why", "failure"})
# Fields of ours that an event must not replace.
_RESERVED: Final = frozenset({"level", "namespace", "traceback", "pid"})
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Redaction:
    """Takes secrets out of text: these ones, and whatever stands as a checksum, password or token in a URL."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({text for text in secrets if len(text) >= _SHORTEST_SECRET}, key=len, reverse=True)

    @classmethod
    def of(cls, settings: Settings) -> Redaction:
        """That of the configured secrets."""
        redis = settings.redis
        texts = [secret.decode(errors="replace") for secret in settings.loadbalancer_secrets]
        others = (
            settings.secret_key_base,
            settings.api_secret,
            redis.password,
            redis.sentinel_password,
            redis.url,
            settings.database_url,
        )
        return cls(texts + [text for text in others if text])

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "*")
        if "=" in text or "@" in text:
            text = _HIDDEN.sub(lambda found: (found[1] or found[2]) + "*", text)
        return text


class LogFile:
    """Writes whole lines at once, to a file that several processes may share, or to standard output for None.

    A file that was moved away (by logrotate) is opened anew.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._complained = False
        self._fd = self._open()

    def _open(self) -> int:
        if self._path is None:
            return 1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, line: bytes) -> None:
        """Write a line. One that can't be written is lost; that is said once on standard error."""
        try:
            if self._path is not None and self._moved(self._path):
                os.close(self._fd)
                self._fd = self._open()
            view = memoryview(line)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            if not self._complained:
                self._complained = True
                os.write(2, f"scalelite: the log could not be written: {error}\n".encode())
        else:
            self._complained = False

    def _moved(self, path: Path) -> bool:
        try:
            return os.stat(path).st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return True


@implementer(ILogObserver)
class Observer:
    """Formats events of at least `level` and writes them. Twisted's own count for less: its news are our details."""

    def __init__(self, write: Callable[[bytes], None], level: str, line: Callable[[LogEvent, str], bytes]) -> None:
        self._write = write
        self._least = _LEVELS[level]
        self._line = line

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level") or LogLevel.info
        name: str = level.name
        if name == "info" and event.get("log_namespace", "").startswith(("twisted.", "log_legacy")):
            name = "debug"
        if _LEVELS[name] >= self._least:
            self._write(self._line(event, name))


class JSONLines:
    """One JSON object an event; `always` are fields that every line has."""

    def __init__(self, redact: Callable[[str], str], always: Mapping[str, str | int]) -> None:
        self._redact = redact
        self._always = always

    def __call__(self, event: LogEvent, level: str) -> bytes:
        entry: dict[str, Any] = {
            "time": _iso(event.get("log_time") or time.time()),
            "level": level,
            "namespace": event.get("log_namespace", "-"),
            "message": self._redact(formatEvent(event))[:MAX_MESSAGE],
            "pid": os.getpid(),
            **self._always,
        }
        for key, value in event.items():
            if key.startswith("log_") or key in _INTERNAL or key in _RESERVED:
                continue
            if isinstance(value, str):
                entry[key] = self._redact(value)[:MAX_FIELD]
            elif value is None or isinstance(value, int | float):
                entry[key] = value
        failure = event.get("log_failure")
        if failure is not None:
            entry["traceback"] = self._redact(traceback_of(failure))
        try:
            return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:
            # A number beyond 64 bits, or text that is no Unicode.
            return orjson.dumps({key: _plain(value) for key, value in entry.items()}, option=orjson.OPT_APPEND_NEWLINE)


class HumanLines:
    """Time, level and message, for a terminal."""

    def __init__(self, redact: Callable[[str], str], always: Mapping[str, str | int]) -> None:
        self._redact = redact
        self._prefix = f"[worker {always['worker']}] " if "worker" in always else ""

    def __call__(self, event: LogEvent, level: str) -> bytes:
        when = time.strftime("%H:%M:%S", time.localtime(event.get("log_time")))
        text = self._redact(formatEvent(event))[:MAX_MESSAGE]
        failure = event.get("log_failure")
        if failure is not None:
            text += "\n" + self._redact(traceback_of(failure))
        text = _UNPRINTABLE.sub("?", text.rstrip("\n")).replace("\n", "\n    ")
        return f"{when} {level.upper():8} {self._prefix}{text}\n".encode(errors="replace")


def traceback_of(failure: Failure) -> str:
    """The traceback, its beginning and its end if it is long."""
    text = failure.getTraceback()
    if len(text) <= MAX_TRACEBACK:
        return text
    half = MAX_TRACEBACK // 2
    return f"{text[:half]}\n...\n{text[-half:]}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    return str(value).encode(errors="replace").decode()


@attrs.frozen
class LogChoice:
    """Where events go: as our lines into the file `path` (None: standard output), or as twistd's options say.

    Of twistd's: `logfile`, `syslog` with its prefix, `logger` as the name of a factory of observers.
    """

    path: str | None = None
    logfile: str | None = None
    syslog: str | None = None
    logger: str | None = None

    @classmethod
    def made(cls, settings: Settings, root: Path, twistd: Mapping[str, Any]) -> Self:
        """What the settings and twistd's options choose; a daemon has no standard output."""
        if twistd.get("logger"):
            return cls(logger=fullyQualifiedName(twistd["logger"]))
        if twistd.get("syslog"):
            return cls(syslog=twistd["prefix"])
        if twistd.get("logfile"):
            return cls(logfile=twistd["logfile"] if twistd["logfile"] == "-" else str(root / twistd["logfile"]))
        to_stdout = settings.log_to_stdout or settings.environment == "development"
        if to_stdout and twistd.get("nodaemon", True):
            return cls()
        return cls(path=str(root / "log" / f"{settings.environment}.log"))

    def left_to_twistd(self, *, shared: bool) -> bool:
        """Whether twistd's own observer is to be used. Its files can't be `shared` with other processes."""
        return (self.syslog or self.logger) is not None or (self.logfile is not None and not shared)

    @property
    def elsewhere(self) -> bool:
        """Whether events go to where somebody at the terminal does not see them."""
        return bool(self.path or self.syslog or self.logger) or self.logfile not in (None, "-")

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Take the choice from a command line made by `arguments`."""
        for field in attrs.fields(LogChoice):
            parser.add_argument(f"--{field.name}")

    @property
    def arguments(self) -> list[str]:
        """The choice for a command line."""
        return [f"--{name}={value}" for name, value in attrs.asdict(self).items() if value is not None]

    @classmethod
    def of(cls, given: Namespace) -> Self:
        """The choice that a command line made."""
        return cls(given.path, given.logfile, given.syslog, given.logger)

    def observer(self, settings: Settings, *, worker: int | None = None) -> ILogObserver:
        """What this process logs by. Raises OSError for a file that can't be written."""
        if self.logger is not None:
            made: ILogObserver = namedAny(self.logger)()
            return made
        if self.syslog is not None:
            from twisted.python.syslog import SyslogObserver

            legacy: Any = SyslogObserver(self.syslog).emit
            return LegacyLogObserverWrapper(legacy)
        if self.logfile is not None:
            return Observer(LogFile(_file(self.logfile)).write, settings.log_level, classic_line)
        always: dict[str, str | int] = {} if worker is None else {"worker": worker}
        human = self.path is None and settings.environment == "development" and os.isatty(1)
        line = (HumanLines if human else JSONLines)(Redaction.of(settings), always)
        return Observer(LogFile(_file(self.path)).write, settings.log_level, line)


def _file(path: str | None) -> Path | None:
    return None if path is None or path == "-" else Path(path)


def classic_line(event: LogEvent, _level: str) -> bytes:
    """The line that twistd's own observer writes, made harmless for a terminal."""
    text = formatEventAsClassicLogText(event) or ""
    harmless = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
    return harmless.encode(errors="replace")
