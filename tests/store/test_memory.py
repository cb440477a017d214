"""The store in memory: fakeredis must answer as Redis does, through the private parts of it that are used."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scalelite.store.connection import Argument, Login, Redis, Script, StoreReplyError, StoreUnavailable
from scalelite.store.endpoints import always
from scalelite.store.memory import MemoryEndpoint

_trial = SynchronousTestCase()


class Store:
    """A store in memory, with a clock that is moved on after every call."""

    def __init__(self, db: int = 0, beside: Store | None = None) -> None:
        self.clock = beside.clock if beside else Clock()
        self.endpoint = beside.endpoint if beside else MemoryEndpoint(self.clock)
        self.redis = Redis(self.clock, always(self.endpoint), Login(db=db), timeout=2.0, embedded="memory")

    def settle(self, deferred: Deferred[object]) -> object:
        self.clock.pump([0.0] * 5)
        return _trial.successResultOf(deferred)

    def call(self, *args: Argument) -> object:
        return self.settle(self.redis.call(*args))

    def refused(self, deferred: Deferred[object]) -> StoreReplyError:
        self.clock.pump([0.0] * 5)
        error: StoreReplyError = _trial.failureResultOf(deferred, StoreReplyError).value
        return error


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.mark.parametrize("value", ["007", "", "a\r\nb", "ä", "x" * 100_000])
def test_value_comes_back_as_it_was_written(store: Store, value: str) -> None:
    assert store.call("SET", "k", value) == "OK"
    assert store.call("GET", "k") == value


def test_bytes_that_are_no_text_come_back_as_bytes(store: Store) -> None:
    store.call("SET", "k", b"\xff")
    assert store.call("GET", "k") == b"\xff"


def test_hash_set_and_sorted_set_answer_as_redis_does(store: Store) -> None:
    assert store.call("HSET", "h", "a", 1, "b", "2") == 2
    assert store.call("HGETALL", "h") == ["a", "1", "b", "2"]
    assert store.call("HGETALL", "none") == []
    assert store.call("GET", "none") is None
    store.call("SADD", "s", "x")
    assert store.call("SMEMBERS", "s") == ["x"]
    store.call("ZADD", "z", 1.5, "m")
    assert store.call("ZADD", "z", "XX", "INCR", 1, "m") == "2.5"
    assert store.call("ZSCORE", "z", "m") == "2.5"
    assert store.call("ZRANGE", "z", 0, -1, "WITHSCORES") == ["m", "2.5"]


def test_key_expires(store: Store) -> None:
    store.call("SET", "k", "v", "EX", 100)
    assert store.call("TTL", "k") == 100
    assert store.call("SET", "k", "v", "NX") is None
    store.call("PEXPIREAT", "k", 1)
    assert store.call("GET", "k") is None


def test_scan_finds_every_key(store: Store) -> None:
    for number in range(30):
        store.call("SET", f"k{number}", number)
    cursor, found = "0", set()
    while True:
        cursor, keys = store.call("SCAN", cursor, "MATCH", "k*", "COUNT", 7)
        found.update(keys)
        if cursor == "0":
            break
    assert len(found) == 30


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        ("return redis.call('GET', KEYS[1])", "v"),
        ("return {1, 'two', false, {3}}\n", [1, "two", None, [3]]),
        ("return {1, nil, 3}", [1]),
        ("return 3.99", 3),
        ("return cjson.encode({a = ARGV[1]})", '{"a":"x"}'),
        ("return redis.status_reply('FINE')", "FINE"),
        ("local t = redis.call('TIME') return #t", 2),
        ("return tonumber(redis.call('HINCRBYFLOAT', 'h', 'f', '0.5')) * 2", 1),
    ],
)
def test_script_answers_as_in_redis(store: Store, source: str, reply: object) -> None:
    store.call("SET", "k", "v")
    for _ in range(2):
        assert store.settle(store.redis.run(Script.of("t", source), ["k"], ["x"])) == reply
        store.call("DEL", "h")


def test_error_keeps_its_first_word(store: Store) -> None:
    store.call("SET", "k", "v")
    assert store.refused(store.redis.call("HGETALL", "k")).code == "WRONGTYPE"
    assert store.refused(store.redis.call("NOSUCHCOMMAND")).code == "ERR"
    nested = Script.of("t", "return {1, redis.error_reply('BAD inside')}")
    assert store.refused(store.redis.run(nested, [])).code == "BAD"
    raised = Script.of("t", "return redis.call('HGETALL', KEYS[1])")
    assert store.refused(store.redis.run(raised, ["k"])).code == "WRONGTYPE"
    assert store.call("GET", "k") == "v"


def test_pipelined_calls_are_answered_in_order(store: Store) -> None:
    pushes = [store.redis.call("RPUSH", "l", number) for number in range(100)]
    assert [store.settle(push) for push in pushes] == list(range(1, 101))
    assert store.settle(store.redis.many([["LLEN", "l"], ["LINDEX", "l", 99]])) == [100, "99"]


def test_connections_share_their_data_but_not_their_database(store: Store) -> None:
    store.call("SET", "k", "v")
    neighbour, other = Store(beside=store), Store(db=1, beside=store)
    assert neighbour.call("GET", "k") == "v"
    assert other.call("GET", "k") is None
    assert Store().call("GET", "k") is None


def test_closing_fails_later_calls(store: Store) -> None:
    store.call("SET", "k", "v")
    store.settle(Deferred.fromCoroutine(store.redis.close()))
    _trial.failureResultOf(store.redis.call("GET", "k"), StoreUnavailable)
