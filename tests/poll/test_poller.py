"""One pass: load and health of every server, records that go or live on, numbers, versions, old copies."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from scalelite.bbb.client import BadAnswer, NeverSent, NoAnswer
from scalelite.cluster.records import ServerState
from scalelite.poll.poller import AT_ONCE, PATIENCE, VERSION_EVERY
from scalelite.store.meetings import Placement
from tests.poll.rig import FAILED, NOT_FOUND, Rig, meeting, until
from tests.store.layout import CORDONED, DISABLED, ENABLED, GRACE, TTL

OK = b"<response><returncode>SUCCESS</returncode></response>"
ERRORS = [NeverSent("refused"), NoAnswer("late"), BadAnswer("HTML")]


async def _age_pending(rig: Rig, meeting_id: str, seconds: float) -> None:
    """Let the create of a meeting have begun so many seconds earlier."""
    since = await rig.stores.time() - seconds
    await rig.stores.call("HSET", f"balancer:pending:{meeting_id}", "since", since)
    server_id = await rig.stores.where(meeting_id)
    await rig.stores.call("ZADD", f"balancer:recent:{server_id}", since, meeting_id)


async def _age_confirmed(rig: Rig, meeting_id: str) -> None:
    """Let a meeting have been confirmed a while ago."""
    server_id = await rig.stores.where(meeting_id)
    await rig.stores.call("ZREM", f"balancer:recent:{server_id}", meeting_id)


@pytest_twisted.ensureDeferred
async def test_load_and_figures_are_scalelites(rig: Rig) -> None:
    backend = await rig.add("s1", multiplier=2.5)
    backend.meetings = {
        "a": meeting("a", 2, 1, age=1),
        "b": meeting("b", 5, 2, age=60, videos=2),
        "c": meeting("c", 7, 0, age=1, breakout=True, videos="1"),
        "d": meeting("d", 20, 4, age=1),
    }
    report = await rig.poll()
    server = await rig.stores.servers.find("s1")
    assert server is not None
    assert server.load == 115
    assert (server.users, server.meetings, server.largest_meeting, server.videos) == ("34", "4", "20", "3")
    assert (report.servers, report.answered, report.failed, report.users) == (1, 1, 0, 34)


@pytest.mark.parametrize("text", ["1,700", "1.700", "1 700", "1\xa0700", "1\u202f700", "1700"])
@pytest_twisted.ensureDeferred
async def test_numbers_grouped_by_locale_are_understood(rig: Rig, text: str) -> None:
    backend = await rig.add("s1")
    backend.runs("m", participants=text)
    await rig.poll()
    assert await rig.stores.scores("server_load") == {"s1": 1700}
    assert (await rig.stores.hash("server:s1"))["users"] == "1700"


@pytest.mark.parametrize("text", ["-5", "²", "", "many"])
@pytest_twisted.ensureDeferred
async def test_nonsense_instead_of_a_number_counts_nothing(rig: Rig, text: str) -> None:
    backend = await rig.add("s1")
    backend.runs("m", participants=text)
    await rig.poll()
    assert await rig.stores.scores("server_load") == {"s1": 0}


@pytest_twisted.ensureDeferred
async def test_listed_meetings_cost_one_request_for_all(rig: Rig) -> None:
    backend = await rig.add("s1")
    await rig.poll()
    for number in range(50):
        await rig.stores.create(f"m{number}")
        backend.runs(f"m{number}")
    backend.calls.clear()
    await rig.poll()
    assert [action for action, _ in backend.calls] == ["getMeetings"]


@pytest.mark.parametrize("state", [ENABLED, CORDONED, DISABLED])
@pytest_twisted.ensureDeferred
async def test_every_server_is_polled_whatever_its_state(rig: Rig, state: ServerState) -> None:
    backend = await rig.add("s1", state=state)
    backend.runs("m", participants=9)
    await rig.poll()
    assert (await rig.stores.hash("server:s1"))["users"] == "9"
    assert await rig.stores.scores("server_load") == ({"s1": 9} if state is ENABLED else {})


@pytest.mark.parametrize("trouble", [*ERRORS, FAILED % b"checksumError", NOT_FOUND])
@pytest_twisted.ensureDeferred
async def test_server_without_a_good_answer_goes_offline_at_the_threshold(rig: Rig, trouble: bytes | Exception) -> None:
    backend = await rig.add("s1")
    other = await rig.add("s2")
    other.runs("x", participants=5)
    await rig.stores.create("m")
    backend.on["getMeetings"] = trouble
    report = await rig.poll()
    assert (report.answered, report.failed) == (1, 1)
    assert (await rig.stores.hash("server:s1"))["online"] == "true"
    await rig.poll()
    assert (await rig.stores.hash("server:s1"))["online"] == "false"
    assert await rig.stores.scores("server_load") == {"s2": 5}
    assert await rig.stores.where("m") == "s1"
    assert {action for action, _ in backend.calls} == {"getMeetings"}

    del backend.on["getMeetings"]
    backend.runs("m")
    await rig.poll()
    assert (await rig.stores.hash("server:s1"))["online"] == "true"
    assert "s1" in await rig.stores.scores("server_load")


@pytest_twisted.ensureDeferred
async def test_answer_that_can_not_be_made_sense_of_is_a_failed_poll(
    rig: Rig, unhandled_errors: list[LogEvent]
) -> None:
    backend = await rig.add("s1")
    backend.on["getMeetings"] = RuntimeError("odd")
    await rig.poll(2)
    assert (await rig.stores.hash("server:s1"))["online"] == "false"
    assert [event["log_failure"].type for event in unhandled_errors] == [RuntimeError] * 2
    unhandled_errors.clear()


@pytest_twisted.ensureDeferred
async def test_absent_meeting_that_its_server_does_not_know_is_over(rig: Rig) -> None:
    await rig.add("s1")
    await rig.stores.create("m", bridges=("1",))
    await _age_confirmed(rig, "m")
    assert (await rig.poll()).dropped == 1
    assert await rig.stores.where("m") is None
    assert await rig.stores.members("meetings") == set()
    assert await rig.stores.hash("voice_bridges") == {}


@pytest.mark.parametrize("answer", [*ERRORS, FAILED % b"checksumError", FAILED % b"internalError"])
@pytest_twisted.ensureDeferred
async def test_absent_meeting_is_kept_while_nothing_proves_its_end(rig: Rig, answer: bytes | Exception) -> None:
    backend = await rig.add("s1")
    await rig.stores.create("m", bridges=("1",))
    await _age_confirmed(rig, "m")
    backend.on["getMeetingInfo"] = answer
    assert (await rig.poll()).dropped == 0
    assert len(backend.asked("getMeetingInfo")) == 1
    assert await rig.stores.where("m") == "s1"
    assert await rig.stores.hash("voice_bridges") == {"1": "m"}


@pytest_twisted.ensureDeferred
async def test_meeting_confirmed_while_the_server_was_asked_is_kept(rig: Rig) -> None:
    backend = await rig.add("s1")
    answer: Deferred[bytes] = Deferred()
    backend.on["getMeetings"] = lambda *_: answer
    placed = await rig.stores.place("m")
    running = rig.begin()
    await until(lambda: backend.calls)
    await rig.stores.meetings.confirm(placed)
    answer.callback(backend.answer("getMeetings", {}))
    assert (await running).dropped == 0
    assert len(backend.asked("getMeetingInfo")) == 1
    assert await rig.stores.where("m") == "s1"
    assert await rig.stores.scores("server_load") == {"s1": 15}


@pytest.mark.parametrize("certain", [True, False])
@pytest_twisted.ensureDeferred
async def test_pending_meeting_is_dropped_once_its_grace_is_over(rig: Rig, certain: bool) -> None:
    await rig.add("s1")
    placed = await rig.stores.place("m", bridges=("1",))
    if not certain:
        await rig.stores.meetings.release(placed, refused=False)
    await _age_pending(rig, "m", GRACE - 20)
    assert (await rig.poll()).dropped == 0
    assert await rig.stores.where("m") == "s1"
    assert await rig.stores.scores("server_load") == {"s1": 15}
    await _age_pending(rig, "m", GRACE + 20)
    assert (await rig.poll()).dropped == 1
    assert await rig.stores.where("m") is None
    assert await rig.stores.hash("voice_bridges") == {}
    assert await rig.stores.scores("server_load") == {"s1": 0}


@pytest_twisted.ensureDeferred
async def test_meeting_of_a_crashed_create_that_lives_is_kept_for_good(rig: Rig) -> None:
    backend = await rig.add("s1")
    await rig.stores.place("m")
    backend.runs("m")
    await _age_pending(rig, "m", 1)
    await rig.poll()
    assert not (await rig.stores.reserve("m")).pending
    await rig.poll()
    assert await rig.stores.where("m") == "s1"


@pytest_twisted.ensureDeferred
async def test_meetings_seen_alive_never_expire(rig: Rig) -> None:
    backend = await rig.add("s1")
    await rig.stores.create("m")
    await rig.stores.create(" trimmed by the server ")
    backend.runs("m", "trimmed by the server")
    backend.on["getMeetingInfo"] = OK
    for meeting_id in ("m", " trimmed by the server "):
        await rig.stores.call("EXPIRE", f"meeting:{meeting_id}", 10)
    await rig.poll()
    for meeting_id in ("m", " trimmed by the server "):
        assert await rig.stores.call("TTL", f"meeting:{meeting_id}") > TTL - 10
    assert backend.asked("getMeetingInfo") == [{"meetingID": " trimmed by the server "}]


@pytest_twisted.ensureDeferred
async def test_expired_record_is_taken_off_the_list(rig: Rig) -> None:
    backend = await rig.add("s1")
    await rig.stores.create("m")
    await rig.stores.call("DEL", "meeting:m")
    await rig.poll()
    assert await rig.stores.members("meetings") == set()
    assert backend.asked("getMeetingInfo") == []


@pytest_twisted.ensureDeferred
async def test_record_of_a_removed_server_is_left_for_the_next_create(rig: Rig) -> None:
    await rig.add("s1")
    await rig.add("s2", 5)
    await rig.stores.create("m")
    await rig.stores.call("DEL", "server:s1")
    await rig.stores.call("SREM", "servers", "s1")
    await rig.poll()
    assert await rig.stores.where("m") == "s1"
    assert (await rig.stores.reserve("m")).placement == "new"


@pytest_twisted.ensureDeferred
async def test_leaked_number_is_freed_after_two_passes(rig: Rig) -> None:
    backend = await rig.add("s1")
    await rig.stores.create("m", bridges=("1",))
    backend.runs("m")
    await rig.stores.call("HSET", "voice_bridges", "2", "gone")
    assert (await rig.poll()).freed_bridges == 0
    assert await rig.stores.hash("voice_bridges") == {"1": "m", "2": "gone"}
    assert (await rig.poll()).freed_bridges == 1
    assert await rig.stores.hash("voice_bridges") == {"1": "m"}


@pytest_twisted.ensureDeferred
async def test_number_that_changed_hands_between_two_passes_waits_again(rig: Rig) -> None:
    await rig.stores.call("HSET", "voice_bridges", "2", "gone")
    await rig.poll()
    await rig.stores.call("HSET", "voice_bridges", "2", "gone as well")
    assert (await rig.poll()).freed_bridges == 0
    assert (await rig.poll()).freed_bridges == 1


@pytest_twisted.ensureDeferred
async def test_number_of_a_meeting_that_runs_without_record_is_not_freed(rig: Rig) -> None:
    backend = await rig.add("s1")
    backend.runs("m")
    await rig.stores.call("HSET", "voice_bridges", "1", "m")
    await rig.poll(3)
    assert await rig.stores.hash("voice_bridges") == {"1": "m"}
    backend.meetings.clear()
    await rig.poll()
    assert await rig.stores.hash("voice_bridges") == {}


@pytest_twisted.ensureDeferred
async def test_version_is_asked_of_new_and_returned_servers_and_now_and_then(rig: Rig) -> None:
    await rig.poll()
    backend = await rig.add("s1")
    await rig.poll()
    assert len(backend.asked("index")) == 1
    assert (await rig.stores.hash("server:s1"))["bbb_version"] == "3.0.12"
    await rig.poll()
    assert len(backend.asked("index")) == 1
    backend.on["getMeetings"] = NoAnswer("late")
    await rig.poll(2)
    assert len(backend.asked("index")) == 1
    del backend.on["getMeetings"]
    backend.version = "3.0.13"
    await rig.poll()
    assert (await rig.stores.hash("server:s1"))["bbb_version"] == "3.0.13"
    assert len(backend.asked("index")) == 2
    await rig.poll(VERSION_EVERY)
    assert len(backend.asked("index")) == 3


@pytest_twisted.ensureDeferred
async def test_version_that_is_not_told_is_empty_and_not_asked_for_each_time(rig: Rig) -> None:
    await rig.poll()
    backend = await rig.add("s1")
    backend.version = None
    await rig.poll(4)
    assert (await rig.stores.hash("server:s1"))["bbb_version"] == ""
    assert len(backend.asked("index")) == 1


@pytest.mark.parametrize("answer", [*ERRORS, FAILED % b"checksumError"])
@pytest_twisted.ensureDeferred
async def test_failed_question_for_the_version_changes_nothing(rig: Rig, answer: bytes | Exception) -> None:
    backend = await rig.add("s1")
    backend.on["index"] = answer
    await rig.poll()
    assert "bbb_version" not in await rig.stores.hash("server:s1")
    await rig.stores.servers.set_bbb_version("s1", "3.0")
    await rig.poll(VERSION_EVERY)
    assert (await rig.stores.hash("server:s1"))["bbb_version"] == "3.0"
    assert (await rig.stores.hash("server:s1"))["online"] == "true"


async def _move(rig: Rig) -> None:
    """Meeting "m" is recorded on s2 and still runs on s1."""
    first = await rig.add("s1")
    await rig.stores.create("m", password="old")
    await rig.stores.fail("s1", 2)
    second = await rig.add("s2", 5)
    await rig.stores.create("m", password="new")
    first.runs("m")
    second.runs("m")


@pytest_twisted.ensureDeferred
async def test_old_copy_is_ended_when_its_server_is_back_and_then_forgotten(rig: Rig) -> None:
    await _move(rig)
    first = rig.backends["s1"]
    assert (await rig.poll()).ended_copies == 1
    assert first.asked("end") == [{"meetingID": "m", "password": "old"}]
    assert rig.backends["s2"].asked("end") == []
    assert await rig.stores.where("m") == "s2"
    assert {target.id: target.moved for target in await rig.stores.servers.targets()}["s1"] == {"m"}
    copy = '{"moderator_pw":"old","since":1}'
    await rig.stores.call("HSET", "balancer:old_copies:s1", "m", copy)
    assert (await rig.poll()).ended_copies == 0
    assert {target.id: target.moved for target in await rig.stores.servers.targets()}["s1"] == set()
    assert len(first.asked("end")) == 1


@pytest_twisted.ensureDeferred
async def test_old_copy_that_may_yet_come_to_be_is_remembered_for_a_while(rig: Rig) -> None:
    await _move(rig)
    rig.backends["s1"].meetings.clear()
    await rig.poll()
    rig.backends["s1"].runs("m")
    assert (await rig.poll()).ended_copies == 1


@pytest_twisted.ensureDeferred
async def test_old_copy_is_ended_with_the_password_that_its_server_lists(rig: Rig) -> None:
    await _move(rig)
    rig.backends["s1"].runs("m", password="in force")
    await rig.poll()
    assert rig.backends["s1"].asked("end") == [{"meetingID": "m", "password": "in force"}]


@pytest_twisted.ensureDeferred
async def test_old_copy_without_any_password_is_ended_without_one(rig: Rig) -> None:
    await rig.add("s1")
    other = await rig.add("s2", 5)
    await rig.stores.create("m")
    rig.backends["s1"].runs("m")
    other.runs("m")
    assert (await rig.poll()).ended_copies == 1
    assert other.asked("end") == [{"meetingID": "m"}]


@pytest.mark.parametrize("answer", [*ERRORS, FAILED % b"invalidPassword"])
@pytest_twisted.ensureDeferred
async def test_old_copy_that_was_not_ended_is_tried_again(rig: Rig, answer: bytes | Exception) -> None:
    await _move(rig)
    rig.backends["s1"].on["end"] = answer
    assert (await rig.poll(2)).ended_copies == 0
    del rig.backends["s1"].on["end"]
    assert (await rig.poll()).ended_copies == 1
    assert (await rig.stores.hash("server:s1"))["online"] == "true"


@pytest_twisted.ensureDeferred
async def test_old_copy_is_left_alone_when_the_meeting_came_back_meanwhile(rig: Rig) -> None:
    await _move(rig)
    first = rig.backends["s1"]
    answer: Deferred[bytes] = Deferred()
    first.on["getMeetings"] = lambda *_: answer
    running = rig.begin()
    await until(lambda: first.calls)
    await rig.stores.fail("s2", 2)
    await rig.stores.poll("s1", "m")
    placed = await rig.stores.create("m")
    assert placed.server_id == "s1"
    answer.callback(first.answer("getMeetings", {}))
    await running
    assert first.asked("end") == []


@pytest_twisted.ensureDeferred
async def test_old_copy_is_left_alone_when_the_meeting_came_back_since_the_poll_was_recorded(rig: Rig) -> None:
    await _move(rig)
    first = rig.backends["s1"]
    answer: Deferred[bytes] = Deferred()
    first.on["getMeetingInfo"] = lambda *_: answer
    await rig.stores.poll("s1", "m")
    assert (await rig.stores.create("absent")).server_id == "s1"
    running = rig.begin()
    await until(lambda: first.asked("getMeetingInfo"))
    await rig.stores.fail("s2", 2)
    assert (await rig.stores.create("m")).server_id == "s1"
    answer.callback(NOT_FOUND)
    await running
    assert first.asked("end") == []


@pytest_twisted.ensureDeferred
async def test_meeting_is_not_placed_where_its_old_copy_is_being_ended(rig: Rig) -> None:
    await _move(rig)
    first = rig.backends["s1"]
    answer: Deferred[bytes] = Deferred()
    first.on["end"] = lambda *_: answer
    running = rig.begin()
    await until(lambda: first.asked("end"))
    await rig.stores.fail("s2", 2)
    assert (await rig.stores.reserve("m")).placement is Placement.NO_SERVERS
    answer.callback(first.answer("end", first.asked("end")[0]))
    await running
    assert (await rig.stores.place("m")).server_id == "s1"


@pytest.mark.parametrize(
    ("answer", "over"),
    [
        (NOT_FOUND, True),
        (FAILED % b"invalidPassword", True),
        (NeverSent("no connection"), True),
        (NoAnswer("too late"), False),
        (BadAnswer("a gateway's page"), False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_end_without_answer_counts_as_on_its_way(rig: Rig, answer: bytes | Exception, over: bool) -> None:
    await _move(rig)
    rig.backends["s1"].on["end"] = answer
    await rig.poll()
    await rig.stores.fail("s2", 2)
    placement = (await rig.stores.reserve("m")).placement
    assert placement is (Placement.NEW if over else Placement.NO_SERVERS)


@pytest_twisted.ensureDeferred
async def test_copy_of_a_meeting_without_record_is_ended_though_it_comes_to_be_only_later(rig: Rig) -> None:
    backend = await rig.add("s1")
    await rig.stores.place("m", password="pw")
    await rig.stores.meetings.clear("m", "s1", may_live=True)
    assert (await rig.poll()).ended_copies == 0
    backend.runs("m")
    assert (await rig.poll()).ended_copies == 1
    assert backend.asked("end") == [{"meetingID": "m", "password": "pw"}]


@pytest_twisted.ensureDeferred
async def test_no_copy_is_ended_before_the_meeting_is_sure_to_live_elsewhere(rig: Rig) -> None:
    first = await rig.add("s1")
    await rig.stores.create("m")
    await rig.stores.fail("s1", 2)
    second = await rig.add("s2", 5)
    second.on["getMeetings"] = NoAnswer("late")
    await rig.stores.place("m")
    first.runs("m")
    await rig.poll()
    assert first.asked("end") == []
    assert "m" in first.meetings


@pytest_twisted.ensureDeferred
async def test_moved_meeting_that_never_came_to_be_goes_back_to_its_users(rig: Rig) -> None:
    first = await rig.add("s1")
    await rig.stores.create("m")
    first.runs("m", participants=20)
    await rig.stores.fail("s1", 2)
    await rig.add("s2", 5)
    placed = await rig.stores.place("m")
    await rig.stores.meetings.release(placed, refused=False)
    await _age_pending(rig, "m", GRACE + 20)
    await rig.poll(2)
    assert await rig.stores.where("m") == "s1"
    assert "m" in first.meetings
    assert first.asked("end") == []


@pytest.mark.parametrize("wanted", [CORDONED, DISABLED])
@pytest_twisted.ensureDeferred
async def test_state_changed_during_the_poll_is_not_undone(rig: Rig, wanted: ServerState) -> None:
    backend = await rig.add("s1")
    backend.runs("m", participants=9)
    answer: Deferred[bytes] = Deferred()
    backend.on["getMeetings"] = lambda *_: answer
    running = rig.begin()
    await until(lambda: backend.calls)
    await rig.stores.servers.set_state("s1", wanted)
    answer.callback(backend.answer("getMeetings", {}))
    await running
    assert (await rig.stores.hash("server:s1"))["state"] == wanted.value
    assert await rig.stores.scores("server_load") == {}


@pytest_twisted.ensureDeferred
async def test_server_removed_during_the_poll_is_left_alone(rig: Rig) -> None:
    backend = await rig.add("s1")
    await rig.stores.create("m")
    answer: Deferred[bytes] = Deferred()
    backend.on["getMeetings"] = lambda *_: answer
    running = rig.begin()
    await until(lambda: backend.calls)
    await rig.stores.servers.remove("s1", force=True)
    answer.callback(backend.answer("getMeetings", {}))
    await running
    assert [action for action, _ in backend.calls] == ["getMeetings"]
    assert await rig.stores.redis.call("KEYS", "*") == []


@pytest_twisted.ensureDeferred
async def test_store_emptied_during_the_poll_stays_empty(rig: Rig) -> None:
    backends = [await rig.add(server_id) for server_id in ("s1", "s2")]
    await rig.stores.create("m")
    await rig.stores.meetings.clear("m", "s1", may_live=True)
    await rig.stores.create("m")
    answer: Deferred[bytes] = Deferred()
    for backend in backends:
        backend.on["getMeetings"] = NoAnswer("late")
    backends[0].on["getMeetings"] = lambda *_: answer
    running = rig.begin()
    await until(lambda: backends[0].calls)
    await rig.stores.redis.call("FLUSHALL")
    answer.callback(backends[0].answer("getMeetings", {}))
    await running
    assert await rig.stores.redis.call("KEYS", "*") == []
    assert (await rig.poll()).servers == 0


@pytest_twisted.ensureDeferred
async def test_server_whose_poll_can_not_be_recorded_is_its_own_trouble(rig: Rig) -> None:
    for server_id in ("s1", "s2", "s3"):
        (await rig.add(server_id)).runs(f"m-{server_id}", participants=9)
    await rig.stores.put_foreign("s2")
    await rig.stores.put_foreign("server:s3")
    assert (await rig.poll()).answered == 1
    assert (await rig.stores.scores("server_load"))["s1"] == 9


@pytest_twisted.ensureDeferred
async def test_one_odd_meeting_does_not_keep_the_poller_from_the_others(rig: Rig) -> None:
    backend = await rig.add("s1")
    ids = [f"m{number:02}" for number in range(3 * AT_ONCE)]
    for meeting_id in ids:
        await rig.stores.create(meeting_id)
        await _age_confirmed(rig, meeting_id)

    def info(_: object, params: object) -> bytes:
        if params == {"meetingID": "m00"}:
            raise NoAnswer("late")
        return NOT_FOUND

    backend.on["getMeetingInfo"] = info
    assert (await rig.poll()).dropped == len(ids) - 1
    assert await rig.stores.members("meetings") == {"m00"}


@pytest_twisted.ensureDeferred
async def test_server_that_answers_no_single_question_is_left_for_the_next_pass(rig: Rig) -> None:
    backend = await rig.add("s1")
    for number in range(3 * AT_ONCE):
        await rig.stores.create(f"m{number}")
        await _age_confirmed(rig, f"m{number}")
    backend.on["getMeetingInfo"] = NoAnswer("late")
    await rig.poll()
    assert len(backend.asked("getMeetingInfo")) == AT_ONCE


@pytest_twisted.ensureDeferred
async def test_slow_server_is_not_asked_about_single_meetings_for_ever_and_not_about_the_same_ones(rig: Rig) -> None:
    backend = await rig.add("s1")
    for number in range(3 * AT_ONCE):
        await rig.stores.create(f"m{number:02}")
        await _age_confirmed(rig, f"m{number:02}")

    def info(*_: object) -> bytes:
        rig.clock.advance(PATIENCE)
        return FAILED % b"internalError"

    backend.on["getMeetingInfo"] = info
    rig.drawn = [0.0, 2.0 * AT_ONCE + 0.7]
    await rig.poll(2)
    asked = [params["meetingID"] for params in backend.asked("getMeetingInfo")]
    assert asked == [f"m{n:02}" for n in (*range(AT_ONCE), *range(2 * AT_ONCE, 3 * AT_ONCE))]


@pytest_twisted.ensureDeferred
async def test_answers_are_kept_for_lists_that_come_later(rig: Rig) -> None:
    backend = await rig.add("s1")
    backend.runs("m")
    rig.clock.advance(100)
    await rig.poll()
    kept = rig.answers.get("s1", 100)
    assert kept is not None
    assert b"<meetingID>m</meetingID>" in kept
    backend.on["getMeetings"] = NoAnswer("late")
    rig.clock.advance(50)
    await rig.poll()
    assert rig.answers.get("s1", 101) is None
    assert rig.poller.since_last_good() == {"s1": 50}
    await rig.stores.servers.remove("s1")
    await rig.poll()
    assert rig.poller.since_last_good() == {}
