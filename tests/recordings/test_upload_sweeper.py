"""Uploads that were given up go, every hour."""

from __future__ import annotations

from twisted.internet import defer, task

from scalelite.recordings.upload_sweeper import INTERVAL, UploadSweeper


def test_it_looks_at_the_start_and_every_hour_until_it_is_stopped() -> None:
    clock, turns = task.Clock(), []

    def sweep() -> defer.Deferred[int]:
        turns.append(clock.seconds())
        return defer.succeed(len(turns) - 1)

    sweeper = UploadSweeper(clock, sweep)
    sweeper.startService()
    clock.pump([INTERVAL] * 2)
    assert turns == [0, INTERVAL, 2 * INTERVAL]
    sweeper.stopService()
    clock.advance(INTERVAL)
    assert len(turns) == 3


def test_disk_in_trouble_does_not_end_it() -> None:
    clock, turns = task.Clock(), []

    def sweep() -> defer.Deferred[int]:
        turns.append(clock.seconds())
        return defer.fail(OSError("gone"))

    sweeper = UploadSweeper(clock, sweep)
    sweeper.startService()
    clock.advance(INTERVAL)
    assert len(turns) == 2
    sweeper.stopService()


def test_stop_waits_for_the_sweep_under_way() -> None:
    clock = task.Clock()
    under_way: defer.Deferred[int] = defer.Deferred()
    sweeper = UploadSweeper(clock, lambda: under_way)
    sweeper.startService()
    stopped = sweeper.stopService()
    assert stopped is not None
    assert not stopped.called
    under_way.callback(0)
    assert stopped.called
