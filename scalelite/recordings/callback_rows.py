"""Callback URLs in SQL: ours by meeting and tenant, and Scalelite's table beside them, so that going back works."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import yaml
from sqlalchemy import Connection, case, delete, exists, func, insert, or_, select, update

from scalelite.cluster.records import CallbackURLs
from scalelite.recordings.sql import bulk, upsert
from scalelite.recordings.tables import callback_data, callbacks, outbox, recordings

KEPT: Final = timedelta(days=60)
"""A recording may be imported weeks after its meeting."""

MAX_YAML: Final = 64 * 1024

# Scalelite's keys are Ruby symbols, which YAML shows by a colon in front. In its order.
_ANALYTICS: Final = ":analytics_callback_url"
_RECORDING_READY: Final = ":recording_ready_url"


def encoded(urls: CallbackURLs) -> str | None:
    """`callback_attributes` as Scalelite writes it: YAML with symbol keys; None where there is nothing."""
    fields = {_ANALYTICS: urls.analytics, _RECORDING_READY: urls.recording_ready}
    given = {name: url for name, url in fields.items() if url is not None}
    if not given:
        return None
    return yaml.safe_dump(given, explicit_start=True, allow_unicode=True, width=2**31, sort_keys=False)


def decoded(text: str | None) -> CallbackURLs:
    """The URLs in `callback_attributes`; what can't be read counts as none."""
    if not text or len(text) > MAX_YAML:
        return CallbackURLs()
    try:
        fields: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        return CallbackURLs()
    if not isinstance(fields, Mapping):
        return CallbackURLs()
    ready, analytics = fields.get(_RECORDING_READY), fields.get(_ANALYTICS)
    return CallbackURLs(
        recording_ready=ready if isinstance(ready, str) else None,
        analytics=analytics if isinstance(analytics, str) else None,
    )


def save(
    connection: Connection, meeting_id: str, tenant_id: str, urls: CallbackURLs, now: datetime, *, alone: bool
) -> None:
    """Keep the URLs that are given; of two calls the later one by `now` counts, whichever is carried out first.

    Without tenants (`alone`), URLs that Scalelite kept for the meeting are taken over.
    """
    before = _scalelite(connection, meeting_id) if alone else CallbackURLs()
    statement = upsert(connection, callbacks).values(
        meeting_id=meeting_id,
        tenant_id=tenant_id,
        recording_ready_url=urls.recording_ready,
        analytics_url=urls.analytics,
        created_at=now,
        updated_at=now,
    )
    new = statement.excluded

    def merged(name: str) -> Any:
        ours, theirs = callbacks.c[name], new[name]
        return case(
            (callbacks.c.updated_at <= new.updated_at, func.coalesce(theirs, ours)),
            else_=func.coalesce(ours, theirs),
        )

    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["meeting_id", "tenant_id"],
            set_={
                "recording_ready_url": merged("recording_ready_url"),
                "analytics_url": merged("analytics_url"),
                "updated_at": case(
                    (callbacks.c.updated_at <= new.updated_at, new.updated_at), else_=callbacks.c.updated_at
                ),
            },
        )
    )
    kept = _ours(connection, meeting_id, tenant_id) or urls
    _save_for_scalelite(connection, meeting_id, _filled(kept, before), now)


def look_up(connection: Connection, meeting_id: str, tenant_id: str, *, alone: bool) -> CallbackURLs:
    """The URLs kept for a meeting of a tenant.

    Scalelite's rows are looked at only without tenants (`alone`): they do not tell whose they are.
    """
    ours = _ours(connection, meeting_id, tenant_id) or CallbackURLs()
    if not alone or (ours.recording_ready is not None and ours.analytics is not None):
        return ours
    return _filled(ours, _scalelite(connection, meeting_id))


def purge(connection: Connection, now: datetime, limit: int) -> int:
    """Remove rows of meetings that are long over and of which nothing is pending. How many, `limit` at most.

    Scalelite's row of such a meeting goes as well; a row that Scalelite wrote itself stays.
    """
    pending = or_(
        exists().where(outbox.c.meeting_id == callbacks.c.meeting_id, outbox.c.tenant_id == callbacks.c.tenant_id),
        exists().where(
            recordings.c.meeting_id == callbacks.c.meeting_id, recordings.c.state.in_(("processing", "processed"))
        ),
    )
    old = connection.execute(
        select(callbacks.c.id, callbacks.c.meeting_id).where(callbacks.c.updated_at < now - KEPT, ~pending).limit(limit)
    ).all()
    if not old:
        return 0
    meetings = [row.meeting_id for row in old]
    removed = bulk(
        connection,
        delete(callbacks).where(callbacks.c.id.in_([row.id for row in old]), callbacks.c.updated_at < now - KEPT),
    )
    connection.execute(
        delete(callback_data).where(callback_data.c.meeting_id.in_(meetings), callback_data.c.updated_at < now - KEPT)
    )
    return removed


def _ours(connection: Connection, meeting_id: str, tenant_id: str) -> CallbackURLs | None:
    row = connection.execute(
        select(callbacks.c.recording_ready_url, callbacks.c.analytics_url).where(
            callbacks.c.meeting_id == meeting_id, callbacks.c.tenant_id == tenant_id
        )
    ).first()
    return None if row is None else CallbackURLs(row.recording_ready_url, row.analytics_url)


def _scalelite(connection: Connection, meeting_id: str) -> CallbackURLs:
    # Nothing keeps Scalelite from writing two rows for a meeting.
    row = connection.execute(
        select(callback_data.c.callback_attributes)
        .where(callback_data.c.meeting_id == meeting_id)
        .order_by(callback_data.c.id.desc())
        .limit(1)
    ).first()
    return CallbackURLs() if row is None else decoded(row.callback_attributes)


def _save_for_scalelite(connection: Connection, meeting_id: str, urls: CallbackURLs, now: datetime) -> None:
    written = {"callback_attributes": encoded(urls), "updated_at": now}
    if not bulk(connection, update(callback_data).where(callback_data.c.meeting_id == meeting_id).values(**written)):
        connection.execute(insert(callback_data).values(meeting_id=meeting_id, created_at=now, **written))


def _filled(urls: CallbackURLs, others: CallbackURLs) -> CallbackURLs:
    return CallbackURLs(
        recording_ready=others.recording_ready if urls.recording_ready is None else urls.recording_ready,
        analytics=others.analytics if urls.analytics is None else urls.analytics,
    )
