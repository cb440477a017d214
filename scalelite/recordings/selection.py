"""What calls about recordings ask for, read from their parameters (BBB API; Scalelite's semantics)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import attrs

from scalelite.bbb.errors import REQUEST_TOO_LARGE, InternalError
from scalelite.bbb.xml import is_element_name

TENANT_KEY: Final = "tenant-id"
#: Keys by which a recording belongs to its tenant.
RESERVED_KEYS: Final = frozenset((TENANT_KEY, "tenant-name"))
DEFAULT_STATES: Final = ("published", "unpublished")
#: Items of all lists of a call together.
MAX_ITEMS: Final = 10_000
#: Recordings on one page at most, as in BBB.
MAX_PAGE: Final = 100
_META: Final = "meta_"
_MAX_OFFSET: Final = 2**62


@attrs.frozen
class MetaFilter:
    """A recording fits if one of its metadata has one of the keys and one of the values."""

    keys: tuple[str, ...]
    values: tuple[str, ...]


@attrs.frozen
class Selection:
    """Which recordings; None is no filter, an empty tuple lets nothing through. All filters must fit.

    Of `meta`, one filter must fit, or all with `all_meta`.
    """

    record_prefixes: tuple[str, ...] | None = None
    meeting_ids: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = DEFAULT_STATES
    meta: tuple[MetaFilter, ...] | None = None
    all_meta: bool = False
    tenant_id: str | None = None


@attrs.frozen
class Page:
    """A part of what matches."""

    offset: int
    limit: int


@attrs.frozen
class MetadataChanges:
    """Metadata to set (lower-case key to value) and keys to remove; removing wins."""

    values: dict[str, str] = attrs.field(factory=dict)
    removed: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.values or self.removed)


Params = Mapping[str, str | None]


def blank(value: str | None) -> bool:
    """Whether a parameter counts as not given."""
    return value is None or not value.strip()


def items(value: str | None) -> tuple[str, ...]:
    """The items of a comma list, each once; empty ones are dropped: as a prefix they would match everything.

    Raises InternalError for far too many.
    """
    found = tuple(dict.fromkeys(item for item in (value or "").split(",") if item))
    if len(found) > MAX_ITEMS:
        raise InternalError(REQUEST_TOO_LARGE)
    return found


def selection(params: Params, tenant_id: str | None, *, all_meta: bool = False) -> Selection:
    """What a call asks for, of this tenant's recordings."""
    states: tuple[str, ...] | None = items(params.get("state"))
    if blank(params.get("state")):
        states = DEFAULT_STATES
    elif "any" in (states or ()):
        states = None
    return Selection(
        _listed(params, "recordID"), _listed(params, "meetingID"), states, _meta(params), all_meta, tenant_id
    )


def _listed(params: Params, name: str) -> tuple[str, ...] | None:
    return None if blank(params.get(name)) else items(params[name])


def _meta(params: Params) -> tuple[MetaFilter, ...] | None:
    filters = []
    for name, value in params.items():
        if name.startswith(_META):
            key = name.replace(_META, "")
            # updateRecordings stores keys in lower case, metadata.xml brings any.
            filters.append(MetaFilter(tuple(dict.fromkeys((key, key.lower()))), items(value)))
    if sum(len(one.keys) * len(one.values) for one in filters) > MAX_ITEMS:
        raise InternalError(REQUEST_TOO_LARGE)
    return tuple(filters) or None


def page(params: Params) -> Page | None:
    """The page that is asked for with `offset` or `limit`, within BBB's bounds; what is no number is not given."""
    offset, limit = _number(params.get("offset")), _number(params.get("limit"))
    if offset is None and limit is None:
        return None
    return Page(min(max(offset or 0, 0), _MAX_OFFSET), MAX_PAGE if limit is None else min(max(limit, 1), MAX_PAGE))


def _number(value: str | None) -> int | None:
    text = (value or "").strip()
    digits = text[1:] if text[:1] in ("-", "+") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def metadata_changes(params: Params, reserved: Collection[str] = ()) -> MetadataChanges:
    """What `meta_` parameters ask for: a blank value removes the key; keys are lower-cased (BBB API: updateRecordings).

    `reserved` keys are left aside, and so are values for keys that no XML element could have.
    """
    values: dict[str, str] = {}
    removed: set[str] = set()
    for name, value in params.items():
        key = name.removeprefix("meta_").lower()
        if not name.startswith("meta_") or key in reserved:
            continue
        if value is None or not value.strip():
            removed.add(key)
        elif is_element_name(key):
            values[key] = value
    return MetadataChanges({key: value for key, value in values.items() if key not in removed}, frozenset(removed))
