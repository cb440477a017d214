"""A load like that of a weekday: meetings come at random, most are small, classes end at the full hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scalelite.simulator.timeline import Appointment

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["Weekday", "size_of_class"]

HOUR = 3600.0


def size_of_class(uniform: float, largest: int) -> int:
    """How many come, for a random number in [0, 1): mostly a handful, now and then very many (Pareto)."""
    return min(largest, int(4 * (1.0 - uniform) ** -0.8))


@attrs.define(eq=False)
class Weekday:
    """Makes meetings on one node until it is stopped; a restart of the node stops it, too."""

    node: Node
    meetings_per_hour: float = 20.0
    largest: int = 300
    made: int = 0
    _next: Appointment | None = None

    def start(self, meetings_per_hour: float = 20.0, largest: int = 300) -> None:
        """Let meetings arrive (a Poisson process)."""
        if meetings_per_hour <= 0:
            raise ValueError("meetings_per_hour must be positive")
        self.stop()
        self.meetings_per_hour = meetings_per_hour
        self.largest = largest
        self._wait()

    def stop(self) -> None:
        """No more meetings; those that run go on."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _wait(self) -> None:
        pause = self.node.random.expovariate(self.meetings_per_hour / HOUR)
        self._next = self.node.timeline.call_later(pause, self._arrive)

    def _arrive(self) -> None:
        node = self.node
        self.made += 1
        meeting_id = f"class-{node.number}-{self.made}"
        if meeting_id not in node.meetings:
            node.create(meeting_id, name=f"Class {self.made}")
        size = size_of_class(node.random.random(), self.largest)
        for number in range(size):
            self._later(node.random.expovariate(1 / 120.0), meeting_id, moderators=int(number == 0))
        to_hour = HOUR - node.timeline.now() % HOUR
        self._later(to_hour if to_hour > 900 else to_hour + HOUR, meeting_id, moderators=-1)
        self._wait()

    def _later(self, delay: float, meeting_id: str, *, moderators: int) -> None:
        self.node.timeline.call_later(delay, self._come_or_go, meeting_id, moderators)

    def _come_or_go(self, meeting_id: str, moderators: int) -> None:
        if meeting_id not in self.node.meetings:
            return
        if moderators < 0:
            self.node.remove_users(meeting_id)
        else:
            voice = int(self.node.random.random() < 0.4)
            video = int(self.node.random.random() < 0.25)
            self.node.add_users(meeting_id, 1, moderators=moderators, voices=voice, videos=video)
