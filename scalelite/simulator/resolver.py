"""Host names for the nodes, so that a name can be gone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from scalelite.simulator.faults import Fault

if TYPE_CHECKING:
    from scalelite.simulator.simulator import Simulator

__all__ = ["NodeResolver"]

_NAME = re.compile(r"node-([0-9]+)\.bbb\.test\.?\Z")


@implementer(IHostResolution)
@attrs.frozen
class _Resolution:
    name: str

    def cancel(self) -> None:
        """It is over before anyone could."""


@implementer(IHostnameResolver)
class NodeResolver:
    """Resolves `node-NUMBER.bbb.test`; every other name is left to the resolver of the reactor."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._other: IHostnameResolver | None = None

    def install(self) -> None:
        """Put this resolver into the reactor."""
        if self._other is None:
            self._other = self._simulator.reactor.installNameResolver(self)

    def uninstall(self) -> None:
        """Put back the resolver that was there."""
        if self._other is not None:
            self._simulator.reactor.installNameResolver(self._other)
            self._other = None

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Resolve a name; one that is gone has no addresses."""
        found = _NAME.match(hostName)
        if found is None and self._other is not None:
            return self._other.resolveHostName(
                resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
            )
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        if found is not None:
            for node in self._simulator.nodes:
                if node.number == int(found[1]) and not node.faults.hit(Fault.DNS_GONE, "*"):
                    resolutionReceiver.addressResolved(IPv4Address("TCP", node.host, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution
