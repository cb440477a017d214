"""The fixtures of the simulator's tests."""

from tests.simulator.peer import front_end, world

__all__ = ["front_end", "world"]
