"""How a field of the settings is declared: its variable, type, unit and help, kept as attrs metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from scalelite.settings.parse import Kind

MASK = "********"
_KEY = "scalelite.settings.variable"
_SECRET_NAME_ENDINGS = ("pw", "password", "passwd", "secret", "token", "key")

MIB = 1024 * 1024


@attrs.frozen
class Variable:
    """One environment variable, for the reader, the messages and the documentation alike."""

    name: str
    kind: Kind[Any]
    help: str
    group: str
    aliases: tuple[str, ...] = ()
    unit: str = ""
    #: What the documentation prints as default where the plain value would not tell it.
    default_text: str | None = None
    #: A variable of this program, unknown to Scalelite.
    ours: bool = False
    secret: bool = False
    #: Where the reading differs from Scalelite's, beyond the rules that hold for all.
    note: str = ""

    @property
    def right_form(self) -> str:
        """What is accepted, in words, with the unit."""
        return f"{self.kind.form} ({self.unit})" if self.unit else self.kind.form


def setting(*variables: Variable, default: Any) -> Any:
    """A field read from `variables`: the first is its own, others feed it too (see `load`)."""
    secret = any(variable.secret for variable in variables)
    return attrs.field(
        default=default,
        metadata={_KEY: variables},
        repr=_masked_repr if secret else _plain_repr,
    )


def setting_in(group: str) -> Callable[..., Any]:
    """`setting` for the fields of one group that have one variable each: its parts, then `default`."""

    def declare(name: str, kind: Kind[Any], help: str, *, default: Any, **details: Any) -> Any:
        return setting(Variable(name, kind, help, group, **details), default=default)

    return declare


def computed(function: Any) -> Any:
    """A default that is made from the fields before it."""
    return attrs.Factory(function, takes_self=True)


def variables_of(attribute: attrs.Attribute[Any]) -> tuple[Variable, ...]:
    """The variables declared for a field; none for a derived one."""
    return tuple(attribute.metadata.get(_KEY, ()))


def mask_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """The same parameters, the values of those named like a password or secret masked."""
    return {name: MASK if name.lower().endswith(_SECRET_NAME_ENDINGS) else value for name, value in parameters.items()}


def mask_items(text: str) -> str:
    """The text of a `name=value` list that may be malformed, masked as `mask_parameters` would."""
    items = (item.partition("=") for item in text.split(","))
    return ",".join(
        name + equals + (MASK if equals and (not name.strip() or _is_secret(name.strip())) else value)
        for name, equals, value in items
    )


def mask_url(url: str) -> str:
    """A URL with its password masked, and those options that are named like one."""
    scheme, separator, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    username, colon, _ = login.partition(":")
    place, question, query = place.partition("?")
    options = (item.partition("=") for item in query.split("&"))
    masked = "&".join(
        name + equals + (MASK if equals and _is_secret(name) else value) for name, equals, value in options
    )
    return scheme + separator + username + (f":{MASK}" if colon else "") + at + place + question + masked


def _is_secret(name: str) -> bool:
    return name.lower().endswith(_SECRET_NAME_ENDINGS)


def _masked_repr(value: object) -> str:
    if attrs.has(type(value)):
        return repr(value)  # it masks itself
    return repr(MASK) if value else repr(value)


def _plain_repr(value: object) -> str:
    return repr(mask_parameters(value)) if isinstance(value, Mapping) else repr(value)
