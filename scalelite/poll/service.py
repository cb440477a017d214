"""Runs the poller every interval on the instance that was elected."""

from __future__ import annotations

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scalelite.poll.election import Election
from scalelite.poll.poller import Poller
from scalelite.store.errors import StoreError
from scalelite.store.leases import LeaseStore


class PollService(Service):
    """A LoopingCall over the poller's passes; a pass that takes longer than the interval delays the next."""

    _log = Logger()

    def __init__(self, poller: Poller, leases: LeaseStore, clock: IReactorTime, interval: float, holder: str) -> None:
        self.poller = poller
        self._clock = clock
        self._interval = interval
        self._call = LoopingCall(self._turn)
        self._call.clock = clock
        self._pass: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._stopping = False
        self.election = Election(leases, clock, "poller", holder, self._elected)

    def startService(self) -> None:
        super().startService()
        self.election.startService()
        self._call.start(self._interval, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._call.running:
            self._call.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Break off the pass under way, then let another instance have the lease."""
        if self._pass is not None:
            self._stopping = True
            finished = self.poll_now()
            self._pass.cancel()
            await finished
            self._stopping = False
        await self.election.stopService()

    def poll_now(self) -> Deferred[None]:
        """Run a pass, or wait for the one under way."""
        if self._pass is None:
            self._pass = Deferred.fromCoroutine(self._run())
            self._pass.addBoth(self._passed)
        waiter: Deferred[None] = Deferred()
        if self._pass is None:
            waiter.callback(None)
        else:
            self._waiting.append(waiter)
        return waiter

    def _passed(self, _: object) -> None:
        self._pass = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _elected(self) -> None:
        self.poll_now()

    def _turn(self) -> Deferred[None] | None:
        return self.poll_now() if self.election.leading else None

    async def _run(self) -> None:
        started = self._clock.seconds()
        elected = self.election.leading

        def may_go_on() -> bool:
            return not self._stopping and (self.election.leading or not elected)

        try:
            report = await self.poller.run_pass(may_go_on)
        except CancelledError:
            self._log.info("the poll was broken off")
            return
        except StoreError as error:
            self._log.error("the poll was given up: {error}", error=error)
            return
        except Exception:  # noqa: BLE001 - the next pass may go better; the service must live
            self._log.failure("the poll failed")
            return
        if not may_go_on():
            self._log.info("the poll was broken off")
            return
        seconds = self._clock.seconds() - started
        self._log.info(
            "polled {servers} servers in {seconds:.2f} s: {answered} answered, {failed} failed, "
            "{meetings} meetings, {users} users, {dropped} ended, {ended_copies} old copies ended",
            seconds=seconds,
            **attrs.asdict(report),
        )
