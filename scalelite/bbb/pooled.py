"""A client for the pool's servers, made by the settings, with connections of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from twisted.web.client import HTTPConnectionPool

from scalelite.bbb.client import BBBClient, Timeouts
from scalelite.bbb.transports import agent_transports, connection_pool, https_policy, treq_transports


class CallSettings(Protocol):
    """What decides how servers are called; the settings have it. Times in seconds, sizes in bytes."""

    @property
    def connect_timeout(self) -> float: ...
    @property
    def response_timeout(self) -> float: ...
    @property
    def outgoing_algorithm(self) -> str: ...
    @property
    def max_answer_size(self) -> int: ...
    @property
    def host_concurrency(self) -> int: ...
    @property
    def bbb_verify_tls(self) -> bool: ...
    @property
    def bbb_ca_file(self) -> Path | None: ...


def pooled_client(
    reactor: Any, settings: CallSettings, *, by_treq: bool = False
) -> tuple[BBBClient, HTTPConnectionPool]:
    """A client, and its connections, to be closed in the end."""
    pool = connection_pool(reactor, per_server=settings.host_concurrency)
    policy = https_policy(verify=settings.bbb_verify_tls, ca_file=settings.bbb_ca_file)
    client = BBBClient(
        reactor,
        (treq_transports if by_treq else agent_transports)(reactor, pool, policy),
        timeouts=Timeouts(settings.connect_timeout, settings.response_timeout),
        algorithm=settings.outgoing_algorithm,
        max_answer_size=settings.max_answer_size,
        per_server=settings.host_concurrency,
    )
    return client, pool
