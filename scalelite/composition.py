"""Builds the parts: stores, clients, the web site, the poller. Everything is handed what it needs."""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
import uuid
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.web.client import FileBodyProducer, HTTPConnectionPool

from scalelite.admin.console import Failed
from scalelite.admin.ssh import ssh_keys
from scalelite.api.access_log import AccessLog, BufferedFile
from scalelite.api.admission import Admission
from scalelite.api.bigbluebutton import APIRules, BigBlueButtonAPI
from scalelite.api.callbacks import ServerCallbacks
from scalelite.api.dialin import DialIn
from scalelite.api.health import Health
from scalelite.api.hosts import host_check
from scalelite.api.management import ManagementAPI, ManagementRules
from scalelite.api.management_door import Door
from scalelite.api.recordings import register_disabled
from scalelite.api.routing import Routes
from scalelite.api.site import BalancerSite
from scalelite.archive import Archive, build_archive, playback, players, recordings_api, uploads
from scalelite.bbb.client import BBBClient
from scalelite.bbb.pooled import pooled_client
from scalelite.bbb.transports import agent_transports, connection_pool, https_policy
from scalelite.cluster.answers import LastAnswers
from scalelite.cluster.callbacks import CallbackRewriter
from scalelite.cluster.dialin import Prompts
from scalelite.cluster.operations.analytics import AnalyticsReports
from scalelite.cluster.operations.create import CreateRules, MeetingCreator
from scalelite.cluster.operations.ended import EndedMeetings
from scalelite.cluster.operations.get_meetings import MeetingLister
from scalelite.cluster.operations.lrs import LRSPayloads
from scalelite.cluster.operations.servers import ServerClearance
from scalelite.cluster.params import ParamPolicy
from scalelite.desk import no_database, recording_desk
from scalelite.notices import Notices, build_notices, outbox_service
from scalelite.poll.poller import Poller
from scalelite.poll.rules import poll_rules
from scalelite.poll.service import PollService
from scalelite.settings import Settings
from scalelite.store.audit import AuditStore
from scalelite.store.connection import Redis, connect, connect_memory
from scalelite.store.dialin import DialInStore, GuessLimits
from scalelite.store.health import probe
from scalelite.store.inspection import InspectionStore
from scalelite.store.leases import LeaseStore
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore
from scalelite.store.signatures import SignatureStore
from scalelite.store.tenants import TenantStore

if TYPE_CHECKING:
    from scalelite.recordings.desk import RecordingDesk

#: Seconds for all `end` calls of a REST call together.
CLEARING_DEADLINE: Final = 15.0


@attrs.frozen
class Parts:
    """What several services share."""

    reactor: Any
    settings: Settings
    redis: Redis
    servers: ServerStore
    meetings: MeetingStore
    tenants: TenantStore
    leases: LeaseStore
    last_answers: LastAnswers
    pools: list[HTTPConnectionPool]
    #: None where there is no database.
    archive: Archive | None
    notices: Notices


def build_parts(reactor: Any, settings: Settings, *, memory_store: bool = False) -> Parts:
    """Make the stores. Nothing is connected yet. Raises StoreError for files that can't be used.

    `memory_store` asks for the store in this process's memory, for tests.
    """
    if memory_store:
        redis = connect_memory(reactor, timeout=settings.redis_timeout)
    else:
        redis = connect(reactor, settings.redis, timeout=settings.redis_timeout, data_dir=settings.data_dir)
    prefix = settings.redis.prefix
    tenants = TenantStore(redis, prefix)
    archive = build_archive(reactor, settings, redis)
    return Parts(
        reactor=reactor,
        settings=settings,
        redis=redis,
        servers=ServerStore(redis, prefix),
        meetings=MeetingStore(
            redis, prefix, ttl=settings.default_meeting_ttl, new_meeting_load=settings.new_meeting_load
        ),
        tenants=tenants,
        leases=LeaseStore(redis, prefix),
        last_answers=LastAnswers(),
        pools=[],
        archive=archive,
        notices=build_notices(reactor, settings, redis, tenants, archive.database if archive else None),
    )


class RunningPool:
    """The pool for commands that are run in this process: the running stores, and a BBB client of its own."""

    def __init__(self, parts: Parts) -> None:
        self.clock = parts.reactor
        self.servers = parts.servers
        self.meetings = parts.meetings
        self.tenants = parts.tenants
        self.leases = parts.leases
        self.audit = AuditStore(parts.redis, parts.settings.redis.prefix)
        self.inspection = InspectionStore(parts.redis, parts.settings.redis.prefix)
        self._parts = parts

    @cached_property
    def client(self) -> BBBClient:
        return bbb_client(self._parts)

    @cached_property
    def recordings(self) -> RecordingDesk:
        archive = self._parts.archive
        if archive is None:
            raise Failed(no_database(self._parts.settings))
        return recording_desk(archive)


class Connections(Service):
    """The kept connections to servers, closed at the end."""

    def __init__(self, pools: list[HTTPConnectionPool]) -> None:
        self._pools = pools

    def stopService(self) -> Deferred[None]:
        super().stopService()
        closed: list[Deferred[None]] = [pool.closeCachedConnections() for pool in self._pools]
        return DeferredList(closed).addCallback(lambda _: None)


def bbb_client(parts: Parts, *, by_treq: bool = False) -> BBBClient:
    """A client for the pool's servers, with connections of its own."""
    client, pool = pooled_client(parts.reactor, parts.settings, by_treq=by_treq)
    parts.pools.append(pool)
    return client


def web_site(parts: Parts) -> BalancerSite:
    """The HTTP edge with all routes."""
    settings, reactor, notices = parts.settings, parts.reactor, parts.notices
    client = bbb_client(parts)
    # Token URLs are somebody else's: never through the pool of BBB connections, always verified.
    outside_pool = connection_pool(reactor, per_server=2)
    parts.pools.append(outside_pool)
    outside = agent_transports(reactor, outside_pool, https_policy(verify=True, ca_file=None))(settings.connect_timeout)

    def post(body: bytes) -> FileBodyProducer:
        return FileBodyProducer(BytesIO(body))

    create_policy = ParamPolicy(
        settings.default_create_params, settings.override_create_params, settings.create_exclude_params
    )
    creator = MeetingCreator(
        parts.meetings,
        client,
        notices.callbacks,
        CallbackRewriter(settings.url_host, notices.ends),
        LRSPayloads(reactor, outside, post, os.urandom, settings.response_timeout / 2),
        CreateRules(
            create_policy,
            settings.max_meeting_duration,
            settings.voice_bridge_len,
            settings.use_external_voice_bridge,
            patience=settings.response_timeout / 2,
        ),
        random.SystemRandom(),
        reactor.seconds,
    )
    admission = Admission(
        settings.loadbalancer_secrets,
        settings.checksum_algorithms,
        parts.tenants if settings.multitenancy_enabled else None,
    )
    api = BigBlueButtonAPI(
        admission,
        parts.meetings,
        client,
        creator,
        MeetingLister(parts.servers, client, parts.last_answers, reactor.seconds, keep_for=2 * settings.poll_interval),
        APIRules(
            ParamPolicy(settings.default_join_params, settings.override_join_params, settings.join_exclude_params),
            settings.outgoing_algorithm,
            settings.build_number,
            settings.get_meetings_api_disabled,
        ),
        notices.ends,
    )
    routes = Routes()
    receiver = None
    api.register(routes)
    server_callbacks(parts, admission, client).register(routes)
    Health(lambda: health(parts)).register(routes)
    dial_in(parts).register(routes)
    if parts.archive is not None and settings.recordings_enabled:
        recordings_api(parts.archive, admission).register(routes)
        playback(parts.archive, admission).register(routes)
        if (pages := players(parts.archive)) is not None:
            pages.register(routes)
        if (sending := uploads(parts.archive, parts.servers)) is not None:
            sending.register(routes)
            receiver = sending.receiver
    else:
        register_disabled(admission, routes)
    if not settings.api_disabled:
        management_api(parts, client).register(routes)
    production_host = settings.url_host if settings.environment == "production" else None
    site = BalancerSite(
        routes.app.resource(),
        routes.table(),
        AccessLog(access_log_file(settings)),
        reactor,
        receiver=receiver,
        admit=host_check(production_host, subdomains=settings.multitenancy_enabled),
        max_body_size=settings.max_body_size,
        max_connections=settings.max_connections,
        request_timeout=settings.request_timeout,
        idle_timeout=settings.idle_timeout,
    )
    site.noisy = False
    return site


async def health(parts: Parts) -> None:
    """Ask the stores for an answer. Raises StoreError."""
    await probe(parts.redis, parts.settings.redis.prefix)
    if parts.archive is not None:
        await parts.archive.probe()


def server_callbacks(parts: Parts, admission: Admission, client: BBBClient) -> ServerCallbacks:
    """The routes that BBB servers call by themselves."""
    notices = parts.notices
    ended = None
    if notices.ends is not None:
        grace = poll_rules(parts.settings).limits.pending_grace
        ended = EndedMeetings(notices.ends, notices.outbox, parts.meetings, parts.leases, client, parts.reactor, grace)
    return ServerCallbacks(admission, AnalyticsReports(parts.servers, notices.callbacks, notices.outbox), ended)


def management_api(parts: Parts, client: BBBClient) -> ManagementAPI:
    """The REST API for operators."""
    settings = parts.settings
    own = settings.api_secret
    door = Door(
        settings.loadbalancer_secrets if own is None else (own.encode("utf-8", "surrogateescape"),),
        settings.checksum_algorithms,
        SignatureStore(parts.redis, settings.redis.prefix),
        time.time,
        signed_only=settings.api_signed_only,
    )
    return ManagementAPI(
        door,
        parts.servers,
        parts.tenants,
        ServerClearance(parts.servers, parts.meetings, lambda: client, parts.reactor, CLEARING_DEADLINE),
        lambda: str(uuid.uuid4()),
        ManagementRules(settings.server_id_is_hostname, settings.multitenancy_enabled),
        AuditStore(parts.redis, settings.redis.prefix),
    )


def dial_in(parts: Parts) -> DialIn:
    """The route for FreeSWITCH."""
    settings = parts.settings
    limits = GuessLimits(settings.fsapi_max_guesses, settings.fsapi_max_guesses_total)
    prompts = Prompts(settings.voice_bridge_min, settings.voice_bridge_max, settings.fsapi_max_duration)
    store = DialInStore(parts.redis, settings.redis.prefix, limits)
    return DialIn(store, prompts, settings.dialin_password, settings.url_host)


def access_log_file(settings: Settings) -> BufferedFile | None:
    """Where access lines go; None if they are switched off."""
    if settings.access_log == "off":
        return None
    return BufferedFile(None if settings.access_log == "-" else Path(settings.access_log))


def poll_service(parts: Parts, *, jitter: float | None = None) -> PollService:
    """The poller and its election; `jitter` in seconds, by default a twelfth of the interval."""
    settings = parts.settings
    poller = Poller(
        parts.reactor,
        time.time,
        random.SystemRandom().uniform,
        parts.servers,
        parts.meetings,
        parts.leases,
        bbb_client(parts, by_treq=True),
        parts.last_answers,
        poll_rules(settings, jitter=jitter),
    )
    return PollService(poller, parts.leases, parts.reactor, settings.poll_interval, lease_holder())


def lease_holder() -> str:
    """A name for this instance that no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def notice_services(parts: Parts) -> list[Service]:
    """What delivers notices, for the first process: only where there is a database."""
    archive, notices = parts.archive, parts.notices
    if archive is None:
        return []
    return [
        outbox_service(
            parts.reactor, parts.settings, parts.redis, parts.tenants, archive.database, notices.callbacks,
            lease_holder(),
        )
    ]  # fmt: skip


def ssh_service(parts: Parts) -> Service | None:
    """The SSH server for operators; None if there is to be none."""
    keys = ssh_keys(parts.settings)
    if keys is None:
        return None
    # Conch and the commands take a while to import.
    from scalelite.admin.commands import TABLE
    from scalelite.admin.ssh.service import SSHService
    from scalelite.admin.ssh.session import House

    house = House(parts.settings, RunningPool(parts), TABLE, lambda: str(uuid.uuid4()))
    return SSHService(parts.reactor, house, keys)
