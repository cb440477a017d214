"""The connection to Redis against a scripted peer, in the time of a `task.Clock`."""

from __future__ import annotations

import hashlib

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from scalelite.store import connection
from scalelite.store.connection import (
    LOOK,
    MAX_BACKOFF,
    Login,
    Redis,
    Script,
    StoreError,
    StoreReplyError,
    StoreUnavailable,
    backoff,
)
from tests.store.redis_peer import PONG, Place, connected, redis_at

_trial = SynchronousTestCase()
answer = _trial.successResultOf
failure = _trial.failureResultOf
waiting = _trial.assertNoResult


def refusal(deferred: Deferred[object], kind: type[StoreError] = StoreUnavailable) -> StoreError:
    """The StoreError that a call has failed with."""
    error: StoreError = failure(deferred, kind).value
    return error


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1000.3)
    return clock


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (b"$3\r\n007\r\n", "007"),
        (b"$4\r\n1.50\r\n", "1.50"),
        (b"$0\r\n\r\n", ""),
        (b"$4\r\na\r\nb\r\n", "a\r\nb"),
        (b"$2\r\n\xc3\xa4\r\n", "ä"),
        (b"$2\r\n\xff\xfe\r\n", b"\xff\xfe"),
        (b"$-1\r\n", None),
        (b":7\r\n", 7),
        (b"+OK\r\n", "OK"),
        (b"+QUEUED\r\n", "QUEUED"),
        (b"*0\r\n", []),
        (b"*-1\r\n", None),
        (b"*4\r\n$3\r\n007\r\n:7\r\n$-1\r\n$1\r\n\xff\r\n", ["007", 7, None, b"\xff"]),
        (b"*2\r\n*1\r\n$1\r\n1\r\n*1\r\n$1\r\n\xff\r\n", [["1"], [b"\xff"]]),
    ],
)
def test_reply_keeps_its_type(clock: Clock, reply: bytes, value: object) -> None:
    redis, place = connected(clock)
    call = redis.call("GET", "k")
    place.peer.say(reply)
    assert answer(call) == value


@pytest.mark.parametrize(
    ("argument", "sent"),
    [
        ("ä", "ä".encode()),
        (b"\xff", b"\xff"),
        (7, b"7"),
        (1e-7, b"1e-07"),
        (0.1 + 0.2, b"0.30000000000000004"),
        ("", b""),
    ],
)
def test_argument_is_sent_without_loss(clock: Clock, argument: str | bytes | int | float, sent: bytes) -> None:
    redis, place = connected(clock)
    redis.call("ECHO", argument)
    assert place.peer.asked() == b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(sent), sent)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"-WRONGTYPE Operation against a key\r\n", "WRONGTYPE"),
        (b"-OOM command not allowed\r\n", "OOM"),
        (b"-ERR unknown command\r\n", "ERR"),
        (b"-ERR Error running script (call to f_1): @user_script:1: -OOM not allowed\r\n", "OOM"),
        (b"*2\r\n+OK\r\n-WRONGTYPE inside an EXEC reply\r\n", "WRONGTYPE"),
        (b"*2\r\n$1\r\n\xff\r\n-OOM beside bytes\r\n", "OOM"),
        (b"*1\r\n*1\r\n-BAD deep\r\n", "BAD"),
    ],
)
def test_error_reply_fails_its_call_alone(clock: Clock, reply: bytes, code: str) -> None:
    redis, place = connected(clock)
    refused, next_one = redis.call("X"), redis.call("Y")
    place.peer.say(reply + b"+OK\r\n")
    error = refusal(refused, StoreReplyError)
    assert isinstance(error, StoreReplyError)
    assert error.code == code
    assert answer(next_one) == "OK"
    assert len(place.peers) == 1


def test_replies_reach_their_callers_in_the_order_of_the_calls(clock: Clock) -> None:
    redis, place = connected(clock)
    calls = [redis.call("GET", str(number)) for number in range(50)]
    place.peer.say(b"".join(b":%d\r\n" % number for number in range(50)))
    assert [answer(call) for call in calls] == list(range(50))
    assert redis.pending == 0


def test_many_is_one_write_and_one_list(clock: Clock) -> None:
    redis, place = connected(clock)
    both, one, none = redis.many([("GET", "a"), ["GET", b"b"]]), redis.many([["GET", "c"]]), redis.many([])
    assert place.peer.asked() == b"".join(b"*2\r\n$3\r\nGET\r\n$1\r\n%s\r\n" % key for key in (b"a", b"b", b"c"))
    place.peer.say(b"$1\r\n1\r\n")
    waiting(both)
    place.peer.say(b"*1\r\n$1\r\n2\r\n*1\r\n$1\r\n3\r\n")
    assert answer(both) == ["1", ["2"]]
    assert answer(one) == [["3"]]
    assert answer(none) == []


def test_error_in_one_of_many_fails_them_and_harms_no_other(clock: Clock) -> None:
    redis, place = connected(clock)
    several, other = redis.many([["GET", "a"], ["GET", "b"], ["GET", "c"]]), redis.call("PING")
    place.peer.say(b"-WRONGTYPE x\r\n+b\r\n+c\r\n" + PONG)
    assert isinstance(refusal(several, StoreReplyError), StoreReplyError)
    assert answer(other) == "PONG"


@pytest.mark.parametrize("command", ["BLPOP", "SUBSCRIBE", "MULTI", "WATCH", "SELECT", "MONITOR", "WAIT"])
def test_command_that_would_capture_the_shared_connection_is_never_sent(clock: Clock, command: str) -> None:
    redis, place = connected(clock)
    with pytest.raises(ValueError, match=command):
        redis.call(command, "x", 0)
    with pytest.raises(ValueError, match=command):
        redis.many([["GET", "x"], [command, "x", 0]])
    assert place.peer.asked() == b""


def test_script_is_loaded_by_its_source_where_redis_does_not_know_it(clock: Clock) -> None:
    redis, place = connected(clock)
    script = Script.of("double", "return ARGV[1] * 2")
    run = redis.run(script, ["k"], [21])
    sha = hashlib.sha1(b"return ARGV[1] * 2").hexdigest().encode()
    assert place.peer.asked() == b"*5\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$1\r\n1\r\n$1\r\nk\r\n$2\r\n21\r\n" % sha
    place.peer.say(b"-NOSCRIPT No matching script. Please use EVAL.\r\n")
    assert place.peer.asked().startswith(b"*5\r\n$4\r\nEVAL\r\n$18\r\nreturn ARGV[1] * 2\r\n")
    waiting(run)
    place.peer.say(b":42\r\n")
    assert answer(run) == 42


def test_script_that_fails_is_not_run_again(clock: Clock) -> None:
    redis, place = connected(clock)
    run = redis.run(Script.of("bad", "return 1"), [])
    place.peer.asked()
    place.peer.say(b"-OOM not allowed\r\n")
    assert isinstance(refusal(run, StoreReplyError), StoreReplyError)
    assert place.peer.asked() == b""


def test_loading_a_script_does_not_double_the_deadline(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    run = redis.run(Script.of("slow", "return 1"), [])
    clock.advance(1.5)
    place.peer.say(b"-NOSCRIPT none\r\n")
    clock.advance(0.5)
    assert "within 2 s" in str(refusal(run))


def test_scripts_of_the_package_are_found_by_name() -> None:
    with pytest.raises(FileNotFoundError):
        Script.load("no_such_script")


def test_call_without_a_reply_fails_at_its_deadline_and_its_late_reply_is_ignored(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    slow = redis.call("GET", "slow")
    clock.advance(1.5)
    quick = redis.call("GET", "quick")
    place.peer.say(b"")
    waiting(slow)
    clock.advance(0.5)
    assert "within 2 s" in str(refusal(slow))
    waiting(quick)
    place.peer.say(b"+slow\r\n+quick\r\n")
    assert answer(quick) == "quick"
    assert redis.connected
    assert len(place.peers) == 1


def test_every_call_has_its_own_deadline(clock: Clock) -> None:
    redis, _ = connected(clock, timeout=2.0)
    calls = []
    for _ in range(4):
        calls.append(redis.call("GET", "k"))
        clock.advance(0.5)
    for left in (3, 2, 1, 0):
        assert sum(not call.called for call in calls) == left
        for call in calls[: 4 - left]:
            if call.called:
                call.addErrback(lambda failure: failure.trap(StoreUnavailable))
        clock.advance(0.51)


def test_call_in_several_parts_has_one_deadline(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    several = redis.many([["GET", "a"], ["GET", "b"]])
    clock.advance(1.9)
    place.peer.say(b"+a\r\n")
    clock.advance(0.2)
    refusal(several)
    later = redis.call("GET", "c")
    place.peer.say(b"+b\r\n+c\r\n")
    assert answer(later) == "c"


def test_silent_connection_is_replaced_and_closed(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    clock.advance(60)
    lost = redis.call("GET", "k")
    clock.advance(2)
    refusal(lost)
    assert place.peers[0].disconnected
    clock.pump([0.01] * 3)
    place.peer.say(PONG)
    again = redis.call("GET", "k")
    place.peer.say(b"+v\r\n")
    assert answer(again) == "v"
    assert len(place.peers) == 2


def test_silent_connection_may_still_answer_the_calls_that_are_not_overdue(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    clock.advance(60)
    overdue = redis.call("GET", "a")
    clock.advance(1)
    younger = redis.call("GET", "b")
    clock.advance(1)
    refusal(overdue)
    old = place.peers[0]
    assert not old.disconnected
    clock.pump([0.01] * 3)
    place.peer.say(PONG)
    newest = redis.call("GET", "c")
    old.say(b"+a\r\n+b\r\n")
    assert answer(younger) == "b"
    assert old.disconnected
    place.peer.say(b"+c\r\n")
    assert answer(newest) == "c"


def test_connection_lost_under_way_fails_its_calls_at_once_and_repeats_none(clock: Clock) -> None:
    redis, place = connected(clock)
    calls = [redis.call("INCR", "k"), redis.many([["INCR", "k"], ["INCR", "k"]])]
    place.peer.hang_up()
    for call in calls:
        assert "lost" in str(refusal(call))
    clock.pump([0.1] * 3)
    place.peer.say(PONG)
    assert b"INCR" not in place.peer.asked()
    assert redis.pending == 0


def test_garbage_from_the_peer_ends_the_connection(clock: Clock) -> None:
    redis, place = connected(clock)
    call = redis.call("GET", "k")
    place.peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    clock.advance(0)
    assert "Protocol error" in str(refusal(call))
    assert place.peers[0].disconnected


def test_reply_nobody_asked_for_ends_the_connection(clock: Clock) -> None:
    redis, place = connected(clock)
    place.peer.say(b"+surprise\r\n")
    assert place.peer.disconnected
    assert not redis.connected


def test_calls_made_before_the_connection_is_up_are_sent_then(clock: Clock) -> None:
    place = Place(clock)
    redis = redis_at(clock, place)
    call = redis.call("GET", "k")
    assert place.peer.asked() == b"*1\r\n$4\r\nPING\r\n"
    place.peer.say(PONG)
    assert place.peer.asked() == b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    place.peer.say(b"+v\r\n")
    assert answer(call) == "v"


def test_call_given_up_while_it_was_queued_is_not_sent(clock: Clock) -> None:
    place = Place(clock)
    redis = redis_at(clock, place)
    given_up = redis.call("INCR", "k")
    given_up.cancel()
    failure(given_up, CancelledError)
    place.peer.asked()
    place.peer.say(PONG)
    assert place.peer.asked() == b""


def test_call_given_up_after_it_was_sent_does_not_disturb_the_next(clock: Clock) -> None:
    redis, place = connected(clock)
    given_up, next_one = redis.call("GET", "a"), redis.call("GET", "b")
    given_up.cancel()
    failure(given_up, CancelledError)
    place.peer.say(b"+a\r\n+b\r\n")
    assert answer(next_one) == "b"


def test_call_while_redis_is_down_waits_for_its_deadline_at_most(clock: Clock) -> None:
    place = Place(clock)
    place.refusing = True
    redis = redis_at(clock, place, timeout=2.0)
    call = redis.call("GET", "k")
    clock.pump([0.1] * 19)
    waiting(call)
    clock.advance(0.1)
    refusal(call)


def test_call_fails_at_once_when_redis_has_been_down_for_a_deadline(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    place.refusing = True
    place.peer.hang_up()
    clock.pump([0.1] * 30)
    assert "cannot be reached" in str(refusal(redis.call("GET", "k")))


def test_short_outage_costs_a_call_nothing_but_time(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    place.refusing = True
    place.peer.hang_up()
    clock.pump([0.1] * 5)
    call = redis.call("GET", "k")
    place.refusing = False
    clock.pump([0.1] * 10)
    place.peer.say(PONG)
    place.peer.say(b"+v\r\n")
    assert answer(call) == "v"


def test_attempts_go_on_for_ever_at_most_a_second_apart(clock: Clock) -> None:
    redis, place = connected(clock, timeout=2.0)
    place.refusing = True
    place.peer.hang_up()
    clock.pump([0.05] * 20 * 120)
    assert place.attempts > 110
    place.refusing = False
    clock.advance(MAX_BACKOFF)
    place.peer.say(PONG)
    assert redis.connected


def test_back_off_grows_to_a_second() -> None:
    delays = [backoff(failures) for failures in range(100)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == MAX_BACKOFF == 1.0


def test_server_that_hangs_in_the_greeting_is_tried_again(clock: Clock) -> None:
    place = Place(clock)
    redis = redis_at(clock, place, timeout=2.0)
    redis.startService()
    clock.pump([0.1] * 40)
    assert place.peers[0].disconnected
    place.peer.say(PONG)
    assert redis.connected


def test_server_that_loads_its_data_is_not_up_yet(clock: Clock) -> None:
    place = Place(clock)
    redis = redis_at(clock, place, timeout=2.0)
    call = redis.call("GET", "k")
    place.peer.say(b"-LOADING Redis is loading the dataset in memory\r\n")
    clock.pump([0.1] * 2)
    assert len(place.peers) == 2
    place.peer.say(PONG + b"+v\r\n")
    assert answer(call) == "v"


@pytest.mark.parametrize("reply", [b"-READONLY You can't write against a read only replica.\r\n", b"-NOAUTH x\r\n"])
def test_connection_that_leads_to_the_wrong_server_is_replaced(clock: Clock, reply: bytes) -> None:
    redis, place = connected(clock)
    stale = place.peer
    refused, other = redis.call("SET", "k", "v"), redis.call("GET", "k")
    stale.say(reply)
    assert isinstance(refusal(refused, StoreReplyError), StoreReplyError)
    queued = redis.call("GET", "queued")
    stale.say(b"+other\r\n")
    assert answer(other) == "other"
    assert stale.disconnected
    clock.pump([0.1] * 2)
    place.peer.say(PONG + b"+v\r\n")
    assert answer(queued) == "v"


def test_server_that_stays_read_only_is_not_reconnected_in_a_tight_loop(clock: Clock) -> None:
    redis, place = connected(clock)
    for _ in range(50):
        if redis.connected:
            refused = redis.call("SET", "k", "v")
            place.peer.say(b"-READONLY no\r\n")
            refusal(refused, StoreReplyError)
        clock.advance(0.1)
        if not redis.connected and not place.peer.disconnected:
            place.peer.say(PONG)
    assert len(place.peers) < 12


def test_call_beyond_the_cap_fails_at_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_PENDING", 3)
    redis, place = connected(clock)
    sent = [redis.call("GET", "k") for _ in range(3)]
    assert "too many" in str(refusal(redis.call("GET", "k")))
    assert redis.pending == 3
    place.peer.say(b"+v\r\n" * 3)
    assert [answer(call) for call in sent] == ["v"] * 3

    queueing = redis_at(clock, Place(clock))
    queued = [queueing.call("GET", "k") for _ in range(3)]
    assert "too many" in str(refusal(queueing.call("GET", "k")))
    for call in queued:
        waiting(call)


def test_deadlines_need_one_timer_for_all_calls(clock: Clock) -> None:
    redis, place = connected(clock)
    for _ in range(100):
        redis.call("GET", "k")
    assert len(clock.getDelayedCalls()) == 1
    place.peer.say(b"+v\r\n" * 100)
    clock.advance(3)
    assert clock.getDelayedCalls() == []


def test_stopping_fails_what_is_under_way_and_closes_the_connection(clock: Clock) -> None:
    redis, place = connected(clock)
    call = redis.call("GET", "k")
    answer(stopped(redis, clock))
    assert place.peer.disconnected
    assert "closed" in str(refusal(call))
    assert "closed" in str(refusal(redis.call("GET", "k")))
    assert clock.getDelayedCalls() == []
    clock.advance(10)
    assert len(place.peers) == 1


def test_closing_while_redis_is_down_ends_the_attempts(clock: Clock) -> None:
    place = Place(clock)
    place.refusing = True
    redis = redis_at(clock, place)
    call = redis.call("GET", "k")
    answer(Deferred.fromCoroutine(redis.close()))
    refusal(call)
    attempts = place.attempts
    clock.pump([0.5] * 10)
    assert place.attempts == attempts


def test_nothing_is_connected_before_it_is_used(clock: Clock) -> None:
    place = Place(clock)
    redis_at(clock, place)
    clock.advance(5)
    assert place.attempts == 0


def test_login_is_sent_before_anything_else(clock: Clock) -> None:
    place = Place(clock)
    redis = redis_at(clock, place, login=Login("user", "s3cret", 4, master=True))
    redis.startService()
    assert place.peer.asked() == b"*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$6\r\ns3cret\r\n"
    place.peer.say(b"+OK\r\n")
    assert place.peer.asked() == b"*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n"
    place.peer.say(b"+OK\r\n")
    assert place.peer.asked() == b"*1\r\n$4\r\nROLE\r\n"
    place.peer.say(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
    place.peer.say(PONG)
    assert redis.connected


@pytest.mark.parametrize(
    "refused",
    [
        b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        b"-ERR wrong number of arguments for 'auth' command\r\n",
    ],
)
def test_user_name_that_redis_rb_ignores_is_ignored_too(clock: Clock, refused: bytes) -> None:
    place = Place(clock)
    redis = redis_at(clock, place, login=Login("anything", "s3cret"))
    redis.startService()
    place.peer.asked()
    place.peer.say(refused)
    assert place.peer.asked() == b"*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n"
    place.peer.say(b"+OK\r\n" + PONG)
    assert redis.connected


def test_refused_password_is_tried_again_and_not_shown(clock: Clock) -> None:
    place = Place(clock)
    login = Login(None, "s3cret")
    redis = redis_at(clock, place, login=login)
    with capturedLogs() as events:
        call = redis.call("GET", "k")
        place.peer.say(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        clock.pump([0.1] * 2)
        assert len(place.peers) == 2
        clock.advance(2)
    assert "WRONGPASS" in formatEvent(events[0])
    shown = str(refusal(call)) + repr(login) + repr(redis) + repr(events)
    assert "s3cret" not in shown


def test_replica_in_place_of_the_master_is_refused(clock: Clock) -> None:
    place = Place(clock)
    redis = redis_at(clock, place, login=Login(master=True))
    redis.startService()
    place.peer.say(b"*5\r\n$5\r\nslave\r\n$4\r\nhost\r\n:6379\r\n$9\r\nconnected\r\n:0\r\n")
    assert place.peer.disconnected
    assert not redis.connected


def test_master_that_has_been_replaced_is_left_as_soon_as_that_is_known(clock: Clock) -> None:
    place, answers = Place(clock), [False, True, False]

    async def moved() -> bool:
        return answers.pop(0)

    redis = redis_at(clock, place, moved=moved)
    redis.startService()
    place.peer.say(PONG)
    clock.advance(LOOK)
    under_way = redis.call("GET", "a")
    clock.advance(LOOK / 2)
    place.peer.say(b"+a\r\n")
    assert answer(under_way) == "a"
    assert redis.connected
    clock.advance(LOOK / 2)
    assert not redis.connected
    assert place.peers[0].disconnected
    later = redis.call("GET", "b")
    clock.pump([0.1] * 2)
    place.peer.say(PONG + b"+b\r\n")
    assert answer(later) == "b"
    clock.advance(LOOK)
    assert redis.connected
    answer(stopped(redis, clock))
    assert clock.getDelayedCalls() == []


def test_question_after_the_master_under_way_is_given_up_when_the_connection_is_lost(clock: Clock) -> None:
    place, given_up = Place(clock), []

    async def moved() -> bool:
        question: Deferred[bool] = Deferred(given_up.append)
        return await question

    redis = redis_at(clock, place, moved=moved)
    redis.startService()
    place.peer.say(PONG)
    clock.advance(LOOK)
    assert given_up == []
    place.peer.hang_up()
    assert len(given_up) == 1
    clock.pump([0.1] * 2)
    place.peer.say(PONG)
    assert redis.connected


def stopped(redis: Redis, clock: Clock) -> Deferred[None]:
    """The service's end, after a turn of the reactor."""
    stopping = redis.stopService()
    clock.advance(0)
    return stopping
