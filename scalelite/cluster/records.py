"""The records of the balancer: servers, meetings, tenants. Values only; the store reads and writes them."""

from __future__ import annotations

from enum import StrEnum

import attrs


class ServerState(StrEnum):
    """What the operator wants of a server; whether it answers is another matter (`Server.online`)."""

    ENABLED = "enabled"
    CORDONED = "cordoned"
    DISABLED = "disabled"


@attrs.frozen
class Server:
    """One BBB server of the pool. `load` is None while it is not known (disabled, offline or never polled)."""

    id: str
    url: str
    secret: str = attrs.field(repr=False)
    state: ServerState
    online: bool
    tag: str | None = None
    load: float | None = None
    load_multiplier: float = 1.0
    meetings: str | None = None
    users: str | None = None
    largest_meeting: str | None = None
    videos: str | None = None
    bbb_version: str | None = None

    @property
    def takes_joins(self) -> bool:
        """Whether users of its meetings may be sent there."""
        return self.online and self.state is not ServerState.DISABLED


@attrs.frozen
class Meeting:
    """Where a meeting lives. `tenant_id` is "" without a tenant; `voice_bridge` is None on old records."""

    id: str
    server_id: str
    moderator_pw: str | None = attrs.field(default=None, repr=False)
    voice_bridge: str | None = None
    tenant_id: str = ""


@attrs.frozen
class TenantSetting:
    """A parameter that a tenant's create and join calls get: as a default, or over what the client says."""

    param: str
    value: str
    override: bool


@attrs.frozen
class Tenant:
    """A customer of a shared installation, named by the first label of the host it calls."""

    id: str
    name: str
    secrets: tuple[bytes, ...] = attrs.field(repr=False)
    lrs_endpoint: str | None = None
    lrs_username: str | None = None
    lrs_password: str | None = attrs.field(default=None, repr=False)
    kc_token_url: str | None = None
    kc_client_id: str | None = None
    kc_client_secret: str | None = attrs.field(default=None, repr=False)
    kc_username: str | None = None
    kc_password: str | None = attrs.field(default=None, repr=False)
    settings: tuple[TenantSetting, ...] = ()

    def defaults(self) -> dict[str, str]:
        """Parameters that this tenant's calls get where the client gives none."""
        return {s.param: s.value for s in self.settings if not s.override}

    def overrides(self) -> dict[str, str]:
        """Parameters that this tenant's calls always have."""
        return {s.param: s.value for s in self.settings if s.override}


def split_secrets(text: str) -> tuple[bytes, ...]:
    """Secrets of a `:`-separated list, in order. Empty ones are dropped: they would let anyone sign."""
    return tuple(secret.encode() for secret in text.split(":") if secret)


@attrs.frozen
class CallbackURLs:
    """Where a front-end wants to hear of a meeting's recording and its analytics; None where it gave no URL."""

    recording_ready: str | None = None
    analytics: str | None = None
