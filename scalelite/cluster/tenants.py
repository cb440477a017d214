"""Tenants as operators keep them: whole records, and what makes a usable name, secret or setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import attrs

#: A tenant's access to its learning record store, by the names of Scalelite's fields.
LRS_FIELDS: Final = (
    "lrs_endpoint",
    "lrs_username",
    "lrs_password",
    "kc_token_url",
    "kc_client_id",
    "kc_client_secret",
    "kc_username",
    "kc_password",
)
#: Those of them that are secrets.
LRS_SECRETS: Final = frozenset({"lrs_password", "kc_client_secret", "kc_password"})

# The host check lets such a label pass, and nothing else: any other name could never be called.
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_URL: Final = re.compile(r"https?://[^/?#@\s]+(?:[/?][^\s#]*)?")
#: A setting of these would sign for somebody else, or give the tenant's meetings to another one.
_RESERVED: Final = frozenset({"checksum", "meetingID", "meta_tenant-id"})


class Unfit(ValueError):
    """A value that no tenant can have; the message says what it must be."""


class Taken(Unfit):
    """Another tenant has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"A tenant named {name} exists already")


@attrs.frozen
class SettingRecord:
    """A setting as it is recorded; `override`: over what the client says, else only where it says nothing."""

    id: str
    param: str
    value: str = attrs.field(repr=False)
    override: bool


@attrs.frozen
class TenantRecord:
    """A tenant as it is recorded: `secrets` joined by `:` as stored, `lrs` with those of LRS_FIELDS that it has."""

    id: str
    name: str
    secrets: str = attrs.field(repr=False)
    lrs: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    settings: tuple[SettingRecord, ...] = ()


def check_name(name: str) -> None:
    """Raise Unfit unless `name` can be the first label of a host name."""
    if not _LABEL.fullmatch(name):
        raise Unfit(
            "A tenant's name must be the first label of its host name: a-z, 0-9 and -, not at an end, 63 at most"
        )


def joined_secrets(text: str) -> str:
    """The secrets of a `:`-separated list again, without blank and repeated ones, in their order.

    Raises Unfit if none is left, or for characters that no front-end could be given.
    """
    secrets = list(dict.fromkeys(secret for secret in text.split(":") if secret.strip()))
    if not secrets:
        raise Unfit("A tenant needs a secret that is not blank")
    if not all(secret.isprintable() for secret in secrets):
        raise Unfit("A secret must have no control characters")
    return ":".join(secrets)


def check_setting(param: str, value: str) -> None:
    """Raise Unfit for a parameter that a setting must not set, and for what no URL of BBB's could carry."""
    if param in _RESERVED:
        raise Unfit(f"The parameter {param} is not for settings")
    if not param.isprintable() or param != param.strip() or not param:
        raise Unfit("A parameter's name must have no control characters, and no blanks around it")
    if "\0" in value:
        raise Unfit("A value must have no NUL")


def check_lrs(field: str, value: str) -> None:
    """Raise Unfit for a value that a field of LRS_FIELDS can't have."""
    if field in ("lrs_endpoint", "kc_token_url") and not _URL.fullmatch(value):
        raise Unfit(f"{field.upper()} must be an http:// or https:// URL without a user")
    if not value.isprintable():
        raise Unfit(f"{field.upper()} must have no control characters")
