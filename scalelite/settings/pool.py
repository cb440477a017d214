"""The settings of the pool: meetings, servers and the poller, and what everything else rests on."""

# ruff: noqa: RUF009 - the calls declare fields, as attrs.field does; they are no shared defaults

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from scalelite.settings import parse
from scalelite.settings.parse import Kind, decimal, whole
from scalelite.settings.variables import MIB, Variable, setting, setting_in

_general = setting_in("General")
_secrets = setting_in("Secrets")
_meetings = setting_in("Meetings")
_servers = setting_in("Servers")
_poller = setting_in("Poller")

_NOTHING: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class PoolSettings:
    """Settings that have to do with meetings and the servers they run on."""

    #: `development`, `test` or `production`.
    environment: str = _general(
        "SCALELITE_ENV",
        parse.environment,
        "Decides the key prefix, the host check, what must be set, and whether an embedded store is used.",
        default="development",
        aliases=("RAILS_ENV",),
        ours=True,
    )
    url_host: str | None = _general(
        "URL_HOST",
        parse.host_name,
        "The host name front-ends call; requests for other hosts are refused in production. Unset: no check.",
        default=None,
        note="Set but empty, Scalelite refuses every host.",
    )
    build_number: str | None = _general(
        "BUILD_NUMBER", parse.text_value, "Shown by the top-level API call.", default=None
    )
    data_dir: Path = _general(
        "SCALELITE_DATA_DIR",
        parse.path_value,
        "Folder for what this program keeps itself: the embedded store, host keys.",
        default=Path("var"),
        ours=True,
    )

    secret_key_base: str | None = _secrets(
        "SECRET_KEY_BASE",
        parse.secret_value,
        "Key of what is signed. Required in production.",
        default=None,
        secret=True,
    )
    loadbalancer_secrets: tuple[bytes, ...] = setting(
        Variable(
            "LOADBALANCER_SECRET",
            parse.secret_value,
            "Secret that front-ends sign API calls with. Required in production (this or the list) without tenants.",
            "Secrets",
            secret=True,
            note="Scalelite admits the empty secret; it is ignored here.",
        ),
        Variable(
            "LOADBALANCER_SECRETS",
            parse.secret_values,
            "Further secrets; empty items are dropped.",
            "Secrets",
            secret=True,
        ),
        default=(),
    )
    #: Digests accepted from front-ends, weakest first.
    checksum_algorithms: tuple[str, ...] = _secrets(
        "LOADBALANCER_CHECKSUM_ALGORITHM",
        parse.algorithms,
        "Digests accepted in checksums. Calls to servers use the strongest listed, SHA256 when unset.",
        default=parse.ALGORITHMS,
        note="SHA384 is ours; names are taken in any letter case.",
    )
    #: The digest that calls to servers are signed with.
    outgoing_algorithm: str = "SHA256"
    multitenancy_enabled: bool = _secrets(
        "MULTITENANCY_ENABLED", parse.boolean, "Tenants, told apart by the first label of the host.", default=False
    )

    #: Minutes, 0 for no limit.
    max_meeting_duration: int = _meetings(
        "MAX_MEETING_DURATION",
        whole(0, 525_600),
        "Upper limit of a meeting's `duration`; 0 for none.",
        default=0,
        unit="minutes",
    )
    default_create_params: Mapping[str, str] = _meetings(
        "DEFAULT_CREATE_PARAMS",
        parse.parameters,
        "Parameters of `create` that a request may overrule. No quoting: a value holds no `,`.",
        default=_NOTHING,
    )
    override_create_params: Mapping[str, str] = _meetings(
        "OVERRIDE_CREATE_PARAMS",
        parse.parameters,
        "Parameters of `create` that overrule the request's.",
        default=_NOTHING,
    )
    default_join_params: Mapping[str, str] = _meetings(
        "DEFAULT_JOIN_PARAMS", parse.parameters, "Parameters of `join` that a request may overrule.", default=_NOTHING
    )
    override_join_params: Mapping[str, str] = _meetings(
        "OVERRIDE_JOIN_PARAMS", parse.parameters, "Parameters of `join` that overrule the request's.", default=_NOTHING
    )
    create_exclude_params: frozenset[str] = _meetings(
        "CREATE_EXCLUDE_PARAMS", parse.names, "Parameters dropped from `create` requests.", default=frozenset()
    )
    join_exclude_params: frozenset[str] = _meetings(
        "JOIN_EXCLUDE_PARAMS", parse.names, "Parameters dropped from `join` requests.", default=frozenset()
    )
    default_meeting_ttl: int = _meetings(
        "DEFAULT_MEETING_TTL",
        whole(1, 31_536_000),
        "How long a meeting's record outlives the last sign of the meeting.",
        default=86_400,
        unit="seconds",
        note="Scalelite counts from the creation and forgets longer meetings.",
    )
    #: Digits.
    voice_bridge_len: int = _meetings(
        "VOICE_BRIDGE_LEN", whole(1, 18), "Length of the dial-in numbers given out.", default=9, unit="digits"
    )
    use_external_voice_bridge: bool = _meetings(
        "USE_EXTERNAL_VOICE_BRIDGE", parse.boolean, "Take the request's `voiceBridge` first, if free.", default=False
    )
    get_meetings_api_disabled: bool = _meetings(
        "GET_MEETINGS_API_DISABLED", parse.boolean, "`getMeetings` always answers `noMeetings`.", default=False
    )

    connect_timeout: float = _servers(
        "CONNECT_TIMEOUT", decimal(0.01, 300), "Wait for a connection to a server.", default=5.0, unit="seconds"
    )
    response_timeout: float = _servers(
        "RESPONSE_TIMEOUT", decimal(0.01, 300), "Wait for a server's whole answer.", default=10.0, unit="seconds"
    )
    server_healthy_threshold: int = _servers(
        "SERVER_HEALTHY_THRESHOLD", whole(1, 1000), "Good polls until a server is online.", default=1
    )
    server_unhealthy_threshold: int = _servers(
        "SERVER_UNHEALTHY_THRESHOLD", whole(1, 1000), "Failed polls until a server is offline.", default=2
    )
    load_min_user_count: int = _servers(
        "LOAD_MIN_USER_COUNT",
        whole(0, 100_000),
        "A new meeting counts at least this many users.",
        default=15,
        unit="users",
    )
    #: Minutes.
    load_join_buffer_time: int = _servers(
        "LOAD_JOIN_BUFFER_TIME", whole(0, 1440), "How long a meeting is new.", default=15, unit="minutes"
    )
    #: Load a create reserves, before the server's multiplier; None for `load_min_user_count`.
    create_load: float | None = _servers(
        "SCALELITE_CREATE_LOAD",
        decimal(0, 100_000),
        "Load a `create` reserves until the next poll. 1 is what Scalelite adds.",
        default=None,
        unit="users",
        default_text="`LOAD_MIN_USER_COUNT`",
        ours=True,
    )
    server_id_is_hostname: bool = _servers(
        "SERVER_ID_IS_HOSTNAME", parse.boolean, "New servers get their host name as id.", default=False
    )
    host_concurrency: int = _servers(
        "SCALELITE_HOST_CONCURRENCY", whole(1, 10_000), "Exchanges at once with one server.", default=64, ours=True
    )
    max_answer_size: int = _servers(
        "SCALELITE_MAX_ANSWER_SIZE",
        whole(1024, 1024 * MIB),
        "Longest answer taken from a server.",
        default=32 * MIB,
        unit="bytes",
        ours=True,
    )
    bbb_ca_file: Path | None = _servers(
        "SCALELITE_BBB_CA_FILE",
        parse.readable_file,
        "Certificate authorities (PEM) trusted for servers, besides the system's.",
        default=None,
        ours=True,
    )
    bbb_verify_tls: bool = _servers(
        "SCALELITE_BBB_VERIFY_TLS", parse.boolean, "Verify the servers' certificates.", default=True, ours=True
    )

    poll_interval: float = _poller(
        "POLL_INTERVAL",
        decimal(0.1, 3600),
        "Time from one poll of all servers to the next.",
        default=60.0,
        aliases=("INTERVAL",),
        unit="seconds",
        note="Scalelite documents INTERVAL but reads it nowhere.",
    )
    #: Servers polled at once.
    poller_threads: int = _poller(
        "POLLER_THREADS",
        Kind("whole number, 2 to 1000", whole(-1000, 1000).read),
        "Servers polled at once.",
        default=64,
        note="Scalelite uses one less, and crashes at 1. Below 2 is raised to 2, with a warning. "
        "The default is Scalelite's 5 raised, so that 500 servers fit an interval.",
    )
    poller_wait_timeout: float = _poller(
        "POLLER_WAIT_TIMEOUT",
        decimal(0.1, 3600),
        "Wait for a command that asks all servers.",
        default=10.0,
        unit="seconds",
    )

    @property
    def new_meeting_load(self) -> float:
        """The load that a new meeting counts until the next poll, before its server's multiplier."""
        return self.load_min_user_count if self.create_load is None else self.create_load
