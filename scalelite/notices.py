"""Builds what tells front-ends of their meetings and recordings: with a database by its outbox, else from memory."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
from twisted.application.service import IService

from scalelite.bbb.transports import https_policy
from scalelite.cluster.callbacks import EndCallbacks
from scalelite.cluster.operations.analytics import Outbox
from scalelite.cluster.records import CallbackURLs
from scalelite.poll.election import Election
from scalelite.recordings.delivery import CONNECT_TIMEOUT, Deliverer, SigningSecrets
from scalelite.recordings.outbox_memory import MemoryOutbox
from scalelite.recordings.targets import TargetRules, guarded_transport
from scalelite.settings import Settings
from scalelite.store.callbacks import CallbackStore
from scalelite.store.connection import Redis
from scalelite.store.leases import LeaseStore
from scalelite.store.notices import NoticeStore
from scalelite.store.tenants import TenantStore

if TYPE_CHECKING:
    from scalelite.recordings.database import Database
    from scalelite.recordings.outbox_service import OutboxService

LEASE: Final = "outbox"


class Callbacks(Protocol):
    """Keeps callback URLs by meeting and tenant. Raises StoreError."""

    async def merge(self, meeting_id: str, tenant_id: str, urls: CallbackURLs) -> None: ...
    async def find(self, meeting_id: str, tenant_id: str) -> CallbackURLs: ...


@attrs.frozen
class Notices:
    """What each process has for notices. `ends` is None where ends of meetings are not relayed.

    `services` must run where `outbox` is used.
    """

    callbacks: Callbacks
    outbox: Outbox
    ends: EndCallbacks | None
    services: tuple[IService, ...] = ()


def build_notices(
    reactor: Any, settings: Settings, redis: Redis, tenants: TenantStore, database: Database | None
) -> Notices:
    """The parts for every process."""
    prefix = settings.redis.prefix
    kept = CallbackStore(redis, prefix)
    ends = end_callbacks(settings)
    if database is None:
        rules = _rules(settings)
        memory = MemoryOutbox(_deliverer(reactor, settings, tenants), rules, reactor, random.SystemRandom().uniform)
        return Notices(kept, memory, ends, (memory,))
    from scalelite.recordings.callback_records import CallbackRecords
    from scalelite.recordings.hurry import HurriedDatabase
    from scalelite.recordings.outbox_door import OutboxDoor

    hurried = HurriedDatabase(database, reactor)
    records = CallbackRecords(hurried, kept, time.time, alone=not settings.multitenancy_enabled)
    return Notices(records, OutboxDoor(hurried, NoticeStore(redis, prefix), time.time), ends)


def outbox_service(
    reactor: Any,
    settings: Settings,
    redis: Redis,
    tenants: TenantStore,
    database: Database,
    callbacks: Callbacks,
    holder: str,
) -> OutboxService:
    """Delivers what is in the outbox, if it is elected as `holder`; for the first process."""
    from scalelite.recordings.callback_records import CallbackCopier
    from scalelite.recordings.outbox_service import OutboxService, Times

    prefix = settings.redis.prefix

    def elected() -> None:
        made.look()

    made = OutboxService(
        database,
        _deliverer(reactor, settings, tenants),
        callbacks,
        CallbackCopier(database, CallbackStore(redis, prefix), alone=not settings.multitenancy_enabled),
        NoticeStore(redis, prefix),
        Election(LeaseStore(redis, prefix), reactor, LEASE, holder, elected),
        Times(reactor, time.time, random.SystemRandom().uniform),
    )
    return made


def end_callbacks(settings: Settings) -> EndCallbacks | None:
    """How ends of meetings are relayed; None without an address of ours, or a key to sign it."""
    if not settings.url_host or not settings.secret_key_base:
        return None
    return EndCallbacks(settings.url_host, settings.secret_key_base.encode("utf-8", "surrogateescape"))


def _rules(settings: Settings) -> TargetRules:
    return TargetRules(frozenset(host.lower() for host in settings.callback_hosts), settings.callback_private)


def _deliverer(reactor: Any, settings: Settings, tenants: TenantStore) -> Deliverer:
    rules = _rules(settings)
    policy = https_policy(verify=True, ca_file=None)
    return Deliverer(
        reactor,
        guarded_transport(reactor, reactor.nameResolver, rules, policy, CONNECT_TIMEOUT),
        rules,
        SigningSecrets(settings.loadbalancer_secrets, tenants if settings.multitenancy_enabled else None),
        settings.checksum_algorithms,
        time.time,
    )
