"""Who has the last word on the parameters of create and join: installation, tenant or client."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from scalelite.cluster.records import Tenant

Params = dict[str, str | None]

SERVER_TAG = "meta_server-tag"
TENANT_METADATA = frozenset(("meta_tenant-id", "meta_tenant-name"))
"""What meetings and recordings are known by as a tenant's; never taken from a client."""
NEVER_FORWARDED = frozenset(("checksum", "format", "controller", "action"))
"""Signed anew, or names that Scalelite loses to its framework and a backend therefore never saw."""


@attrs.frozen
class ParamPolicy:
    """The installation's parameter sets for one action, as in `DEFAULT_CREATE_PARAMS` and its kin."""

    defaults: Mapping[str, str] = attrs.field(factory=dict)
    overrides: Mapping[str, str] = attrs.field(factory=dict)
    excluded: Collection[str] = frozenset()

    def merge(
        self, request: Mapping[str, str | None], tenant: Tenant | None, *, drop_server_tag: bool = False
    ) -> Params:
        """What is forwarded: defaults < tenant's defaults < request < overrides < tenant's overrides.

        Excluded names are dropped from the request only. A tenant's server tag is for placement and never forwarded;
        `drop_server_tag` says the same of the installation's (create does, join does not: Scalelite's rule).
        A name keeps the place where it first appeared.
        """
        merged = _configured(self.defaults, drop_server_tag)
        if tenant:
            merged.update(_configured(tenant.defaults(), True))
        for name, value in request.items():
            if name not in NEVER_FORWARDED and name not in self.excluded:
                merged[name] = value
        merged.update(_configured(self.overrides, drop_server_tag))
        if tenant:
            merged.update(_configured(tenant.overrides(), True))
        return merged

    def server_tag(self, request: Mapping[str, str | None], tenant: Tenant | None) -> str | None:
        """The tags a create asks for: the first non-blank one, the tenant's override first, our default last."""
        for source in (
            tenant.overrides() if tenant else {},
            self.overrides,
            request,
            tenant.defaults() if tenant else {},
            self.defaults,
        ):
            value = source.get(SERVER_TAG)
            if value is not None and value.strip():
                return value
        return None


def _configured(params: Mapping[str, str], drop_server_tag: bool) -> Params:
    return {name: value for name, value in params.items() if not (drop_server_tag and name == SERVER_TAG)}


def limited_duration(duration: str | None, longest: int) -> str | None:
    """`duration` (minutes, as sent) cut down to `longest`; 0 in either means no limit (MAX_MEETING_DURATION).

    A negative duration passes as it is, like any text without leading digits when there is no maximum.
    """
    if not longest:
        return duration
    minutes = to_int(duration)
    return str(longest) if minutes == 0 or minutes > longest else duration


def to_int(text: str | None) -> int:
    """The leading integer of `text`, 0 if there is none: how Scalelite reads numbers that clients send."""
    text = (text or "").strip()
    end = 1 if text[:1] in ("+", "-") else 0
    while end < len(text) and text[end] in "0123456789":
        end += 1
    try:
        return int(text[:end])
    except ValueError:
        return 0
