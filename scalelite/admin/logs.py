"""The log of a command line: warnings and worse, a line each, on standard error; standard output is for results."""

from __future__ import annotations

from typing import TextIO

from twisted.logger import FilteringLogObserver, ILogObserver, LogEvent, LogLevel, LogLevelFilterPredicate, formatEvent
from twisted.logger import globalLogBeginner as beginner
from zope.interface import provider

from scalelite.admin.text import shown


def log_to(stream: TextIO) -> None:
    """Send the process's log there, for good."""

    @provider(ILogObserver)
    def write(event: LogEvent) -> None:
        word = "WARNING" if event["log_level"] is LogLevel.warn else "ERROR"
        text = shown(" ".join(formatEvent(event).split()))
        failure = event.get("log_failure")
        trace = "" if failure is None else "".join(f"\n{shown(line)}" for line in failure.getTraceback().splitlines())
        stream.write(f"{word}: {text}{trace}\n")
        stream.flush()

    worse = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    beginner.beginLoggingTo([FilteringLogObserver(write, [worse])], discardBuffer=True, redirectStandardIO=False)
