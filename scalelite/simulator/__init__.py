"""A BigBlueButton server that runs on this machine, for the demo, the tests and the benchmarks."""

from scalelite.simulator.faults import Fault, FaultRule
from scalelite.simulator.node import Node, NodeOptions
from scalelite.simulator.records import LoggedRequest, Meeting, Recording, User
from scalelite.simulator.simulator import Simulator

__all__ = [
    "Fault",
    "FaultRule",
    "LoggedRequest",
    "Meeting",
    "Node",
    "NodeOptions",
    "Recording",
    "Simulator",
    "User",
]
