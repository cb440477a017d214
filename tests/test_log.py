"""The log of events: what a line holds, what it never shows, and where it goes."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure

from scalelite.log import MAX_FIELD, MAX_MESSAGE, HumanLines, JSONLines, LogChoice, LogFile, Observer, Redaction
from scalelite.settings import RedisSettings, Settings


def event(message: str = "{fruit} ripe", level: LogLevel = LogLevel.info, **fields: Any) -> LogEvent:
    return {
        "log_format": message,
        "log_level": level,
        "log_namespace": "scalelite.test",
        "log_time": 1_700_000_000.5,
        **fields,
    }


def json_of(given: LogEvent, *secrets: str, **always: str | int) -> dict[str, Any]:
    line = JSONLines(Redaction(secrets), always)(given, "info")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    result: dict[str, Any] = orjson.loads(line)
    return result


def test_a_line_holds_time_level_namespace_message_process_and_fields() -> None:
    line = json_of(event(fruit="apple", count=3, share=0.5, late=True, none=None), worker=2)
    assert line == {
        "time": "2023-11-14T22:13:20.500Z", "level": "info", "namespace": "scalelite.test", "message": "apple ripe",
        "pid": os.getpid(), "worker": 2, "fruit": "apple", "count": 3, "share": 0.5, "late": True, "none": None,
    }  # fmt: skip


def test_fields_that_are_no_plain_values_are_left_out() -> None:
    assert "basket" not in json_of(event("{basket}", basket=["apple"], more=object()))


@pytest.mark.parametrize("name", ["level", "namespace", "pid", "traceback"])
def test_an_events_field_does_not_replace_what_every_line_has(name: str) -> None:
    line = json_of(event("x", **{name: "forged"}))
    assert line.get(name) != "forged"


def test_a_failure_comes_with_its_traceback() -> None:
    try:
        raise ValueError("sour apple")
    except ValueError:
        failure = Failure()
    line = json_of(event("it failed", log_failure=failure))
    assert "test_log.py" in line["traceback"]
    assert "sour apple" in line["traceback"]


@pytest.mark.parametrize("value", [2**70, "half a pair: \ud800"])
def test_values_that_json_cannot_hold_do_not_lose_the_line(value: Any) -> None:
    line = json_of(event("{value}", value=value))
    assert line["level"] == "info"
    assert line["value"]


def test_long_texts_are_cut() -> None:
    line = json_of(event("{text}", text="x" * 100_000))
    assert len(line["message"]) == MAX_MESSAGE
    assert len(line["text"]) == MAX_FIELD


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET /create?meetingID=m&checksum=abcdef HTTP", "GET /create?meetingID=m&checksum=* HTTP"),
        ("moderatorPW=mp&attendeePW=ap", "moderatorPW=*&attendeePW=*"),
        ("url='http://x/?token=t1&a=b'", "url='http://x/?token=*&a=b'"),
        ("redis://user:hunter2@host:6379/0", "redis://user:*@host:6379/0"),
        ("redis://:hunter2@host", "redis://:*@host"),
        ("the key is correct horse battery", "the key is *"),
        ("e-mail a@example.org, x=1", "e-mail a@example.org, x=1"),
    ],
)
def test_secrets_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    secret = "correct horse battery"
    try:
        raise ValueError(text)
    except ValueError:
        failure = Failure()
    line = json_of(event("{text}", text=text, log_failure=failure), secret)
    assert line["message"] == shown
    assert line["text"] == shown
    assert f"ValueError: {shown}" in line["traceback"]
    assert shown in HumanLines(Redaction([secret]), {})(event("{text}", text=text), "info").decode()


def test_all_configured_secrets_are_known() -> None:
    settings = Settings.for_tests(
        loadbalancer_secrets=(b"first secret", b"second secret"),
        secret_key_base="the key base",
        redis=RedisSettings(password="redis password", sentinel_password="sentinel password", url="redis://whole"),
        database_url="postgresql://whole",
    )
    redact = Redaction.of(settings)
    for secret in ("first secret", "second secret", "the key base", "redis password", "sentinel password",
                   "redis://whole", "postgresql://whole"):  # fmt: skip
        assert redact(f"<{secret}>") == "<*>"


def test_words_that_happen_to_be_secrets_do_not_spoil_the_text() -> None:
    assert Redaction(["secret"])("a secret meeting") == "a secret meeting"


@pytest.mark.parametrize(
    ("least", "level", "namespace", "written"),
    [
        ("info", LogLevel.info, "scalelite.poll", True),
        ("info", LogLevel.debug, "scalelite.poll", False),
        ("warn", LogLevel.info, "scalelite.poll", False),
        ("warn", LogLevel.critical, "scalelite.poll", True),
        ("info", LogLevel.info, "twisted.web", False),
        ("debug", LogLevel.info, "twisted.web", True),
        ("info", LogLevel.warn, "twisted.web", True),
        ("info", LogLevel.info, "log_legacy", False),
        ("info", None, "scalelite.poll", True),
    ],
)
def test_events_below_the_level_are_dropped_and_twisteds_news_are_details(
    least: str, level: LogLevel | None, namespace: str, written: bool
) -> None:
    lines: list[bytes] = []
    observer = Observer(lines.append, least, lambda event, level: level.encode())
    observer({"log_format": "x", "log_level": level, "log_namespace": namespace})
    assert bool(lines) is written


def test_people_see_time_level_and_message_and_nothing_that_steers_their_terminal() -> None:
    line = HumanLines(Redaction(), {"worker": 2})(event("{x}", x="a\x1b[2Jb\nc"), "warn").decode()
    clock, rest = line.split(" ", 1)
    assert clock.count(":") == 2
    assert rest == "WARN     [worker 2] a?[2Jb\n    c\n"


def test_lines_of_several_writers_end_up_whole_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log" / "x.log"
    first, second = LogFile(path), LogFile(path)
    first.write(b"one\n")
    second.write(b"two\n")
    first.write(b"three\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("away", [lambda path: path.rename(path.with_suffix(".1")), Path.unlink])
def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path, away: Callable[[Path], object]) -> None:
    path = tmp_path / "x.log"
    file = LogFile(path)
    file.write(b"one\n")
    away(path)
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_full_disk_is_told_once_and_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    file = LogFile(Path("/dev/full"))
    file.write(b"one\n")
    file.write(b"two\n")
    assert capfd.readouterr().err == "scalelite: the log could not be written: [Errno 28] No space left on device\n"


def dotted() -> None:
    """A factory of observers, as `--logger` names one."""


@pytest.mark.parametrize(
    ("settings", "twistd", "expected"),
    [
        ({"environment": "development"}, {"nodaemon": 1}, LogChoice()),
        ({"environment": "development"}, {"nodaemon": 0}, LogChoice(path="/srv/log/development.log")),
        ({"environment": "production"}, {"nodaemon": 1}, LogChoice(path="/srv/log/production.log")),
        ({"environment": "production", "log_to_stdout": True}, {"nodaemon": 1}, LogChoice()),
        ({"environment": "test", "log_to_stdout": True}, {"nodaemon": 0}, LogChoice(path="/srv/log/test.log")),
        ({}, {"logfile": "x.log"}, LogChoice(logfile="/srv/x.log")),
        ({}, {"logfile": "/x.log"}, LogChoice(logfile="/x.log")),
        ({}, {"logfile": "-"}, LogChoice(logfile="-")),
        ({}, {"syslog": 1, "prefix": "lb"}, LogChoice(syslog="lb")),
        ({}, {"logger": dotted, "logfile": "x"}, LogChoice(logger=f"{__name__}.dotted")),
    ],
)  # fmt: skip
def test_the_log_goes_where_settings_and_twistds_options_say(
    settings: dict[str, Any], twistd: dict[str, Any], expected: LogChoice
) -> None:
    assert LogChoice.made(Settings.for_tests(**settings), Path("/srv"), twistd) == expected


@pytest.mark.parametrize(
    "choice",
    [LogChoice(), LogChoice(path="/a b"), LogChoice(logfile="-"), LogChoice(syslog="x"), LogChoice(logger="a.b")],
    ids=str,
)
def test_a_worker_is_told_the_choice_by_its_command_line(choice: LogChoice) -> None:
    parser = ArgumentParser()
    LogChoice.add_arguments(parser)
    assert LogChoice.of(parser.parse_args(choice.arguments)) == choice


@pytest.mark.parametrize(
    ("choice", "alone", "shared"),
    [
        (LogChoice(), False, False),
        (LogChoice(path="/x"), False, False),
        (LogChoice(logfile="/x"), True, False),
        (LogChoice(syslog="x"), True, True),
        (LogChoice(logger="a.b"), True, True),
    ],
)
def test_twistd_logs_itself_only_where_it_was_asked_to_and_can(choice: LogChoice, alone: bool, shared: bool) -> None:
    assert choice.left_to_twistd(shared=False) is alone
    assert choice.left_to_twistd(shared=True) is shared


def test_an_observer_writes_json_into_the_file(tmp_path: Path) -> None:
    choice = LogChoice(path=str(tmp_path / "x.log"))
    choice.observer(Settings.for_tests(), worker=3)(event(fruit="apple"))
    assert orjson.loads((tmp_path / "x.log").read_bytes())["worker"] == 3


def test_an_observer_of_twistds_logfile_writes_twistds_lines(tmp_path: Path) -> None:
    choice = attrs.evolve(LogChoice(), logfile=str(tmp_path / "x.log"))
    choice.observer(Settings.for_tests())(event(fruit="apple"))
    assert (tmp_path / "x.log").read_text().endswith("[scalelite.test#info] apple ripe\n")


def test_twistds_lines_steer_no_terminal(tmp_path: Path) -> None:
    choice = attrs.evolve(LogChoice(), logfile=str(tmp_path / "x.log"))
    choice.observer(Settings.for_tests())(event(fruit="\x1b[2Jap\x9b\u202eple"))
    assert (tmp_path / "x.log").read_text().endswith("[scalelite.test#info] \\x1b[2Jap\\x9b\\u202eple ripe\n")
