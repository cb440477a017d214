"""The settings of the doors: where front-ends, operators and FreeSWITCH come in."""

# ruff: noqa: RUF009 - the calls declare fields, as attrs.field does; they are no shared defaults

from __future__ import annotations

from pathlib import Path

import attrs

from scalelite.settings import parse
from scalelite.settings.listen import Listen, listeners
from scalelite.settings.parse import decimal, whole
from scalelite.settings.pool import PoolSettings
from scalelite.settings.variables import MIB, computed, setting_in

_web = setting_in("Web")
_ssh = setting_in("SSH")
_rest = setting_in("REST")
_dialin = setting_in("Dial-in")


def _default_bind(settings: DoorSettings) -> tuple[Listen, ...]:
    return (Listen("tcp", host="0.0.0.0", port=settings.port),)  # noqa: S104


def _default_fsapi_duration(settings: DoorSettings) -> int:
    return settings.max_meeting_duration


@attrs.frozen(kw_only=True)
class DoorSettings(PoolSettings):
    """Settings of everything that listens, those of the pool included."""

    port: int = _web(
        "PORT", whole(0, 65_535), "TCP port to listen on, all IPv4 addresses; 0 for a free one.", default=3000
    )
    bind: tuple[Listen, ...] = _web(
        "BIND",
        listeners,
        "Where to listen, instead of `PORT`.",
        default=computed(_default_bind),
        default_text="`tcp://0.0.0.0:PORT`",
        note="Puma's options `backlog`, `low_latency`, `optimize_for_latency` and `mode` are without effect.",
    )
    #: Worker processes; 0 and 1 both mean a single process.
    web_concurrency: int = _web(
        "WEB_CONCURRENCY", whole(0, 256), "Worker processes; 0 and 1 both mean one process.", default=0
    )
    max_body_size: int = _web(
        "SCALELITE_MAX_BODY_SIZE",
        whole(1024, 1024 * MIB),
        "Longest request body taken.",
        default=64 * MIB,
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
        default=computed(_default_fsapi_duration),
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
