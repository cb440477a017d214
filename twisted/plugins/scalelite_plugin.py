"""The twistd drop-in: makes ``twistd scalelite`` exist. Strings only, so that listing plugins imports nothing."""

from twisted.application.service import ServiceMaker

scalelite = ServiceMaker(
    "Scalelite for Python",
    "scalelite.service",
    "A load balancer for BigBlueButton servers.",
    "scalelite",
)
