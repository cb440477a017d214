"""The settings: one frozen class, a field per variable, each with its documentation beside it."""

# ruff: noqa: RUF009 - the calls declare fields, as attrs.field does; they are no shared defaults

from __future__ import annotations

from typing import Any, Self

import attrs

from scalelite.settings import parse
from scalelite.settings.listen import Listen
from scalelite.settings.parse import decimal, whole
from scalelite.settings.recordings import RecordingSettings
from scalelite.settings.redis import DEFAULT_NAMESPACES, RedisSettings, redis_url
from scalelite.settings.variables import Variable, computed, setting, setting_in

_redis = setting_in("Redis")
_logs = setting_in("Logs")


def _default_redis(settings: Settings) -> RedisSettings:
    environment = settings.environment
    return RedisSettings(namespace=DEFAULT_NAMESPACES[environment], configured=environment == "production")


def _default_access_log(settings: Settings) -> str:
    return "-" if settings.log_to_stdout or settings.environment == "development" else "log/access.log"


@attrs.frozen(kw_only=True)
class Settings(RecordingSettings):
    """Everything the environment decides, read once at start by `load_settings`.

    Fields bear the names and units of their variables. Times are seconds unless a comment says minutes.
    """

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
        default=computed(_default_redis),
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
        default=computed(_default_access_log),
        default_text="`-` with `RAILS_LOG_TO_STDOUT` or in development, else `log/access.log`",
        ours=True,
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
