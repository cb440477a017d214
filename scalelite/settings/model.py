"""The settings: one frozen class, a field per variable, each with its documentation beside it."""

# ruff: noqa: RUF009 - the calls declare fields, as attrs.field does; they are no shared defaults

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import attrs

from scalelite.settings import parse
from scalelite.settings.listen import Listen, listeners
from scalelite.settings.parse import Kind, decimal, whole
from scalelite.settings.redis import DEFAULT_NAMESPACES, RedisSettings, redis_url
from scalelite.settings.variables import Variable, setting, setting_in

_MIB = 1024 * 1024

_general = setting_in("General")
_secrets = setting_in("Secrets")
_meetings = setting_in("Meetings")
_servers = setting_in("Servers")
_poller = setting_in("Poller")
_web = setting_in("Web")
_ssh = setting_in("SSH")
_rest = setting_in("REST")
_dialin = setting_in("Dial-in")
_redis = setting_in("Redis")
_logs = setting_in("Logs")
_recordings = setting_in("Recordings")

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _default_redis(settings: Settings) -> RedisSettings:
    environment = settings.environment
    return RedisSettings(namespace=DEFAULT_NAMESPACES[environment], configured=environment == "production")


def _default_bind(settings: Settings) -> tuple[Listen, ...]:
    return (Listen("tcp", host="0.0.0.0", port=settings.port),)  # noqa: S104


def _default_access_log(settings: Settings) -> str:
    return "-" if settings.log_to_stdout or settings.environment == "development" else "log/access.log"


def _default_fsapi_duration(settings: Settings) -> int:
    return settings.max_meeting_duration


def _from(function: Any) -> Any:
    return attrs.Factory(function, takes_self=True)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything the environment decides, read once at start by `load_settings`.

    Fields bear the names and units of their variables. Times are seconds unless a comment says minutes.
    """

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
        whole(1024, 1024 * _MIB),
        "Longest answer taken from a server.",
        default=32 * _MIB,
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

    port: int = _web(
        "PORT", whole(0, 65_535), "TCP port to listen on, all IPv4 addresses; 0 for a free one.", default=3000
    )
    bind: tuple[Listen, ...] = _web(
        "BIND",
        listeners,
        "Where to listen, instead of `PORT`.",
        default=_from(_default_bind),
        default_text="`tcp://0.0.0.0:PORT`",
        note="Puma's options `backlog`, `low_latency`, `optimize_for_latency` and `mode` are without effect.",
    )
    #: Worker processes; 0 and 1 both mean a single process.
    web_concurrency: int = _web(
        "WEB_CONCURRENCY", whole(0, 256), "Worker processes; 0 and 1 both mean one process.", default=0
    )
    max_body_size: int = _web(
        "SCALELITE_MAX_BODY_SIZE",
        whole(1024, 1024 * _MIB),
        "Longest request body taken.",
        default=64 * _MIB,
        unit="bytes",
        ours=True,
    )
    max_connections: int = _web(
        "SCALELITE_MAX_CONNECTIONS",
        whole(1, 1_000_000),
        "Client connections at once, per process.",
        default=10_000,
        ours=True,
    )
    request_timeout: float = _web(
        "SCALELITE_REQUEST_TIMEOUT",
        decimal(0.1, 3600),
        "A client's whole request must have arrived by then.",
        default=30.0,
        unit="seconds",
        ours=True,
    )
    idle_timeout: float = _web(
        "SCALELITE_IDLE_TIMEOUT",
        decimal(0.1, 3600),
        "How long an idle kept-alive connection stays open.",
        default=60.0,
        unit="seconds",
        ours=True,
    )
    drain_timeout: float = _web(
        "SCALELITE_DRAIN_TIMEOUT",
        decimal(0, 3600),
        "How long a stopping process lets requests finish.",
        default=25.0,
        unit="seconds",
        ours=True,
    )

    ssh_port: int = _ssh(
        "SCALELITE_SSH_PORT", whole(0, 65_535), "Port of the SSH server; 0 for a free one.", default=2222, ours=True
    )
    ssh_bind: str = _ssh(
        "SCALELITE_SSH_BIND", parse.host_name, "Address that the SSH server listens on.", default="127.0.0.1", ours=True
    )
    #: None: `ssh_authorized_keys` below the data folder in development, elsewhere no SSH at all.
    ssh_authorized_keys: Path | None = _ssh(
        "SCALELITE_SSH_AUTHORIZED_KEYS",
        parse.path_value,
        "File with the public keys that may log in (docs/ssh.md), read again when it changes.",
        default=None,
        default_text="`ssh_authorized_keys` in `SCALELITE_DATA_DIR` in development, elsewhere none, and no SSH",
        ours=True,
    )
    ssh_disabled: bool = _ssh(
        "SCALELITE_SSH_DISABLED", parse.boolean, "No SSH server, whatever else is set.", default=False, ours=True
    )
    ssh_max_sessions: int = _ssh(
        "SCALELITE_SSH_MAX_SESSIONS",
        whole(1, 1000),
        "Commands and shells at once; further ones wait a little, then are refused.",
        default=20,
        ours=True,
    )
    ssh_idle_timeout: float = _ssh(
        "SCALELITE_SSH_IDLE_TIMEOUT",
        decimal(1, 86_400),
        "How long an SSH connection may stay idle.",
        default=900.0,
        unit="seconds",
        ours=True,
    )

    #: None: the load balancer's secrets sign.
    api_secret: str | None = _rest(
        "SCALELITE_API_SECRET",
        parse.secret_value,
        "Secret that calls of the REST API are signed with, instead of the front-ends' (docs/rest.md).",
        default=None,
        default_text="`LOADBALANCER_SECRET` and `LOADBALANCER_SECRETS`",
        ours=True,
        secret=True,
    )
    api_disabled: bool = _rest(
        "SCALELITE_API_DISABLED", parse.boolean, "No REST API below `/scalelite/api`.", default=False, ours=True
    )
    api_signed_only: bool = _rest(
        "SCALELITE_API_SIGNED_ONLY",
        parse.boolean,
        "Take only calls whose signature covers body and time; a checksum is not enough.",
        default=False,
        ours=True,
    )

    #: None: the first of the load balancer's secrets. "": no authentication.
    fsapi_password: str | None = _dialin(
        "FSAPI_PASSWORD",
        parse.secret_value,
        "Password by which FreeSWITCH may ask (docs/dialin.md); its user is `fsapi`. Set but empty: no authentication.",
        default=None,
        default_text="the first of `LOADBALANCER_SECRET` and `LOADBALANCER_SECRETS`",
        secret=True,
    )
    #: Minutes, 0 for no limit.
    fsapi_max_duration: int = _dialin(
        "FSAPI_MAX_DURATION",
        whole(0, 525_600),
        "Calls are ended after this time; 0 for no limit.",
        default=_from(_default_fsapi_duration),
        default_text="`MAX_MEETING_DURATION`",
        unit="minutes",
    )
    voice_bridge_min: int = _dialin(
        "VOICE_BRIDGE_MIN", whole(1, 32), "Fewest digits that callers are asked for.", default=5, unit="digits"
    )
    voice_bridge_max: int = _dialin(
        "VOICE_BRIDGE_MAX", whole(1, 32), "Most digits that callers are asked for.", default=9, unit="digits"
    )
    fsapi_max_guesses: int = _dialin(
        "SCALELITE_FSAPI_MAX_GUESSES",
        whole(0, 1_000_000),
        "Wrong PINs within ten minutes from one caller, after which no PIN of theirs is taken; 0 for no limit.",
        default=10,
        ours=True,
    )
    fsapi_max_guesses_total: int = _dialin(
        "SCALELITE_FSAPI_MAX_GUESSES_TOTAL",
        whole(0, 10_000_000),
        "Wrong PINs within ten minutes from all callers, after which no PIN is taken; 0 for no limit.",
        default=1000,
        ours=True,
    )

    #: None where the variable is unset; only the default of the Redis pool.
    rails_max_threads: int | None = _redis(
        "RAILS_MAX_THREADS",
        whole(1, 10_000),
        "Default of `REDIS_POOL`, nothing else: there are no request threads.",
        default=None,
    )
    redis: RedisSettings = setting(
        Variable(
            "REDIS_URL",
            redis_url,
            "The Redis server or its Sentinels. Unset: `localhost:6379` in production, else the embedded one.",
            "Redis",
            secret=True,
        ),
        Variable(
            "REDIS_POOL",
            whole(1, 10_000),
            "Connections in the pool, per process.",
            "Redis",
            default_text="`RAILS_MAX_THREADS`, else 5",
        ),
        Variable(
            "SCALELITE_REDIS_POOL_TIMEOUT",
            decimal(0.01, 300),
            "Wait for a free connection of the pool.",
            "Redis",
            unit="seconds",
            default_text="5",
            ours=True,
        ),
        Variable(
            "REDIS_NAMESPACE",
            parse.text_value,
            "Every key begins with this and a colon.",
            "Redis",
            default_text="`scalelite`; `scalelite_development`; `scalelite_test`",
            note="Set but empty, Scalelite uses no prefix; here that is written `namespace: ''` in "
            "`config/redis_store.yml`.",
        ),
        Variable(
            "SCALELITE_REDIS_CA_FILE",
            parse.readable_file,
            "Certificate authorities (PEM) trusted for `rediss://`, instead of the system's.",
            "Redis",
            ours=True,
        ),
        Variable(
            "SCALELITE_REDIS_SENTINEL_PASSWORD",
            parse.secret_value,
            "Password of the Sentinels themselves.",
            "Redis",
            ours=True,
            secret=True,
        ),
        default=_from(_default_redis),
    )
    redis_timeout: float = _redis(
        "SCALELITE_REDIS_TIMEOUT",
        decimal(0.01, 300),
        "Wait for a Redis answer.",
        default=3.0,
        unit="seconds",
        ours=True,
    )

    log_to_stdout: bool = _logs(
        "RAILS_LOG_TO_STDOUT", parse.boolean, "Log to standard output instead of a file.", default=False
    )
    #: `debug`, `info`, `warn`, `error` or `critical`.
    log_level: str = _logs(
        "RAILS_LOG_LEVEL", parse.log_level, "Least severe event logged.", default="info", note="Scalelite: `debug`."
    )
    #: A path, `-` for standard output, or `off`.
    access_log: str = _logs(
        "SCALELITE_ACCESS_LOG",
        parse.text_value,
        "File with one line a request; `-` for standard output, `off` for none.",
        default=_from(_default_access_log),
        default_text="`-` with `RAILS_LOG_TO_STDOUT` or in development, else `log/access.log`",
        ours=True,
    )

    database_url: str | None = _recordings(
        "DATABASE_URL", parse.database_url, "The SQL database of the recordings.", default=None, secret=True
    )
    recording_disabled: bool = _recordings(
        "RECORDING_DISABLED", parse.boolean, "Recording calls answer as if there were none.", default=False
    )
    get_recordings_api_filtered: bool = _recordings(
        "GET_RECORDINGS_API_FILTERED",
        parse.boolean,
        "`getRecordings` needs a `meetingID` or `recordID`.",
        default=False,
    )
    recording_playback_formats: tuple[str, ...] = _recordings(
        "RECORDING_PLAYBACK_FORMATS",
        parse.formats,
        "Formats that have playback routes.",
        default=("presentation", "video", "screenshare", "podcast", "notes", "capture"),
    )

    #: What an operator should know although the program starts; one sentence each, free of secrets.
    warnings: tuple[str, ...] = ()

    @property
    def dialin_password(self) -> bytes:
        """What FreeSWITCH authenticates with; empty for no authentication."""
        if self.fsapi_password is None:
            return self.loadbalancer_secrets[0] if self.loadbalancer_secrets else b""
        return self.fsapi_password.encode("utf-8", "surrogateescape")

    @classmethod
    def for_tests(cls, **overrides: Any) -> Self:
        """Settings for a test: environment `test`, one secret `b"secret"`, a free loopback port, no access log.

        `overrides` are fields by name and win over these; values are taken as they are, unchecked.
        """
        ready: dict[str, Any] = {
            "environment": "test",
            "secret_key_base": "secret-key-base",
            "loadbalancer_secrets": (b"secret",),
            "bind": (Listen("tcp", host="127.0.0.1", port=0),),
            "access_log": "off",
        }
        return cls(**(ready | overrides))
