"""The effective settings for an operator's eyes: as text or JSON, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from scalelite.settings.listen import Listen
from scalelite.settings.model import Settings
from scalelite.settings.variables import MASK, Variable, mask_parameters, mask_url, variables_of


def render(settings: Settings, *, show_secrets: bool = False) -> str:
    """One `VARIABLE = value` line each, under the name of its group; the warnings last."""
    rows = list(_rows(settings, show_secrets=show_secrets))
    width = max(len(variable.name) for variable, _ in rows)
    lines: list[str] = []
    group = ""
    for variable, value in rows:
        if variable.group != group:
            lines += ["", f"# {variable.group}"]
            group = variable.group
        unit = f" {variable.unit}" if variable.unit and value is not None else ""
        lines.append(f"{variable.name:<{width}} = {as_text(value, variable.kind.joiner)}{unit}")
    if settings.warnings:
        lines += ["", "# Warnings", *settings.warnings]
    text = "\n".join(lines[1:]) + "\n"
    # A value need not be UTF-8, and what is printed must.
    return text.encode("utf-8", "backslashreplace").decode()


def render_json(settings: Settings, *, show_secrets: bool = False) -> str:
    """A JSON object: `settings` by variable, in the variables' units, and the list `warnings`."""
    values = {variable.name: value for variable, value in _rows(settings, show_secrets=show_secrets)}
    return json.dumps({"settings": values, "warnings": settings.warnings}, indent=2) + "\n"


def as_text(value: Any, joiner: str = ",") -> str:
    """A value as the variable would be written; `(unset)` or `(none)` where it is not."""
    if value is None:
        return "(unset)"
    if value in ("", [], {}):
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, list):
        return joiner.join(value)
    return str(value)


def plain(value: Any, *, show_secrets: bool) -> Any:
    """A field's value in JSON's types; parameters named like a secret masked."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value) if show_secrets else mask_parameters(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [item.url if isinstance(item, Listen) else item for item in value]
    return value


def _rows(settings: Settings, *, show_secrets: bool) -> Iterator[tuple[Variable, Any]]:
    for attribute in attrs.fields(Settings):
        variables = variables_of(attribute)
        value = getattr(settings, attribute.name)
        if attribute.name == "redis":
            yield from zip(variables, _redis_values(settings, show_secrets=show_secrets), strict=True)
        elif attribute.name == "loadbalancer_secrets":
            secrets = [secret.decode("utf-8", "backslashreplace") if show_secrets else MASK for secret in value]
            yield variables[0], secrets[0] if secrets else None
            yield variables[1], ":".join(secrets[1:]) or None
        elif attribute.name == "database_url":
            yield variables[0], value if show_secrets or value is None else mask_url(value)
        elif variables and variables[0].secret:
            yield variables[0], value if show_secrets or value is None else MASK
        elif variables:
            yield variables[0], plain(value, show_secrets=show_secrets)


def _redis_values(settings: Settings, *, show_secrets: bool) -> tuple[Any, ...]:
    """In the order in which the field's variables are declared."""
    redis = settings.redis
    password = redis.sentinel_password
    return (
        redis.describe(show_secrets=show_secrets) if redis.configured else None,
        redis.pool,
        redis.pool_timeout,
        redis.namespace,
        redis.ca_file,
        password if show_secrets or password is None else MASK,
    )
