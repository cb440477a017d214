"""Which recordings a call of getRecordings finds, in which order, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from scalelite.bbb.errors import InternalError
from scalelite.recordings.fetching import fetching
from scalelite.recordings.queries import NARROW, RecordingQueries, after
from scalelite.recordings.selection import Page, Selection, page, selection
from scalelite.recordings.tables import playback_formats, recordings, tenant_recordings, thumbnails
from tests.recordings.databases import ENGINES, fill
from tests.recordings.rows import EPOCH, add_recording

LONG = "x" * 64


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    from scalelite.recordings.engines import open_engine

    engine = open_engine(database_url, pool=1, timeout=10)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


@pytest.fixture(scope="module", params=ENGINES)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Recordings of every kind, the newest first, for tests that only read."""
    from scalelite.recordings.engines import open_engine

    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('queries') / 'scalelite.sqlite3'}"
        fill(url)
    else:
        server = request.getfixturevalue("postgres_server")
        url = server.fresh_database("scalelite_template", fill)
    engine = open_engine(url, pool=1, timeout=10)
    with engine.begin() as connection:
        _add_all_kinds(connection)
        yield connection
    engine.dispose()


def _add_all_kinds(connection: Connection) -> None:
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("abc-1", {"meeting_id": "m1", "metadata": {"color": "red", "Size": "L"}, "tenant": "t1"}),
        ("abc-2", {"meeting_id": "m1", "metadata": {"color": "blue", "size": "S"}, "tenant": "t2"}),
        ("abd-1", {"meeting_id": "m2", "metadata": {"color": "red", "size": "S"}, "tenant": "t1"}),
        ("ABC-1", {"meeting_id": "M1", "metadata": {"size": "L"}}),
        ("a_c-1", {"meeting_id": "m_", "metadata": {"long": LONG + "1"}}),
        ("a%c-1", {"meeting_id": "m%", "metadata": {"long": LONG + "2"}, "tenant": "t%"}),
        ("ünïcode-✓", {"meeting_id": "räum", "metadata": {"straße": "ü✓😀"}}),
        ("unpublished", {"state": "unpublished", "published": False}),
        ("processing", {"state": "processing", "published": False}),
        ("deleted", {"state": "deleted", "metadata": {}}),
        ("stateless", {"state": None, "published": False}),
        ("zed\ue000", {}),
        ("zed\U0001f600", {}),
    )
    for age, (record_id, fields) in enumerate(kinds):
        add_recording(connection, record_id, start=EPOCH - timedelta(days=age), **fields)


SHOWN = [
    "abc-1", "abc-2", "abd-1", "ABC-1", "a_c-1", "a%c-1", "ünïcode-✓", "unpublished", "zed\ue000", "zed\U0001f600",
]  # fmt: skip
ALL = [*SHOWN[:8], "processing", "deleted", "stateless", *SHOWN[8:]]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, SHOWN),
        ({"recordID": ""}, SHOWN),
        ({"recordID": "  ", "meetingID": None, "state": ""}, SHOWN),
        ({"recordID": "abc-1"}, ["abc-1"]),
        ({"recordID": "abc"}, ["abc-1", "abc-2"]),
        ({"recordID": "abc-1,abd,abc"}, ["abc-1", "abc-2", "abd-1"]),
        ({"recordID": "a"}, ["abc-1", "abc-2", "abd-1", "a_c-1", "a%c-1"]),
        ({"recordID": "a_c"}, ["a_c-1"]),
        ({"recordID": "a%"}, ["a%c-1"]),
        ({"recordID": "%"}, []),
        ({"recordID": "_bc-1"}, []),
        ({"recordID": "\\"}, []),
        ({"recordID": "abc-10"}, []),
        ({"recordID": "ünï"}, ["ünïcode-✓"]),
        ({"recordID": "zed"}, ["zed\ue000", "zed\U0001f600"]),
        ({"recordID": "zed\ue000"}, ["zed\ue000"]),
        ({"recordID": "zed\U0001f600"}, ["zed\U0001f600"]),
        # An empty item is no prefix of everything.
        ({"recordID": "nothing,,"}, []),
        ({"recordID": "abd,,abc-2,"}, ["abc-2", "abd-1"]),
        ({"recordID": ",,"}, []),
        ({"meetingID": "m1"}, ["abc-1", "abc-2"]),
        ({"meetingID": "m1,m2"}, ["abc-1", "abc-2", "abd-1"]),
        ({"meetingID": "m"}, []),
        ({"meetingID": "M1"}, ["ABC-1"]),
        ({"meetingID": "m_,m%"}, ["a_c-1", "a%c-1"]),
        ({"meetingID": "räum"}, ["ünïcode-✓"]),
        ({"meetingID": ","}, []),
        ({"meetingID": "m1", "recordID": "abc-2"}, ["abc-2"]),
        ({"meetingID": "m2", "recordID": "abc-2"}, []),
        ({"state": "published"}, [name for name in SHOWN if name != "unpublished"]),
        ({"state": "unpublished"}, ["unpublished"]),
        ({"state": "processing,deleted"}, ["processing", "deleted"]),
        ({"state": "any"}, ALL),
        ({"state": "published,any"}, ALL),
        ({"state": "ANY"}, []),
        ({"state": "Published"}, []),
        ({"state": "bogus"}, []),
        ({"state": ","}, []),
        ({"meta_color": "red"}, ["abc-1", "abd-1"]),
        ({"meta_color": "red,blue"}, ["abc-1", "abc-2", "abd-1"]),
        ({"meta_color": "RED"}, []),
        ({"meta_color": "re"}, []),
        ({"meta_color": "%"}, []),
        ({"meta_color": ""}, []),
        ({"meta_color": None}, []),
        ({"meta_color": ","}, []),
        ({"meta_": "red"}, []),
        ({"Meta_color": "red"}, SHOWN),
        ({"meta_meta_color": "red"}, ["abc-1", "abd-1"]),
        # Keys as given and in lower case.
        ({"meta_Color": "red"}, ["abc-1", "abd-1"]),
        ({"meta_Size": "L"}, ["abc-1", "ABC-1"]),
        ({"meta_size": "L"}, ["ABC-1"]),
        ({"meta_long": LONG}, []),
        ({"meta_long": LONG + "1"}, ["a_c-1"]),
        ({"meta_long": f"{LONG}1,{LONG}2"}, ["a_c-1", "a%c-1"]),
        ({"meta_straße": "ü✓😀"}, ["ünïcode-✓"]),
        # Several keys: one of them must fit.
        ({"meta_color": "blue", "meta_size": "L"}, ["abc-2", "ABC-1"]),
        ({"meta_color": "red", "meta_size": ""}, ["abc-1", "abd-1"]),
        ({"meta_color": "red", "meetingID": "m2"}, ["abd-1"]),
        ({"limit": "x", "offset": " ", "protected": "true"}, SHOWN),
        # Nothing that a caller sends becomes SQL.
        ({"recordID": "' OR 1=1 --", "meetingID": "'; DROP TABLE recordings; --"}, []),
        ({"state": "published') OR ('1'='1"}, []),
        ({"meta_x' OR '1'='1": "y"}, []),
        ({"meta_color": "x' OR 'a'='a"}, []),
        ({"recordID": "%s", "meetingID": "%(a)s", "meta_%s": "?", "state": ":name,?1"}, []),
        ({"recordID": '"', "meta_\\": '{},"[]'}, []),
    ],
)
def test_parameters_choose_recordings(filled: Connection, params: dict[str, str | None], found: list[str]) -> None:
    assert _found(filled, selection(params, None)) == found


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"meta_color": "red", "meta_size": "S"}, ["abd-1"]),
        ({"meta_color": "red,blue", "meta_size": "S"}, ["abc-2", "abd-1"]),
        ({"meta_color": "red"}, ["abc-1", "abd-1"]),
        ({"meta_color": "red", "meta_size": ""}, []),
        ({"meta_color": "blue", "meta_Size": "L"}, []),
    ],
)
def test_all_metadata_must_fit_where_that_is_set(
    filled: Connection, params: dict[str, str | None], found: list[str]
) -> None:
    assert _found(filled, selection(params, None, all_meta=True)) == found


@pytest.mark.parametrize("tenants", [False, True])
@pytest.mark.parametrize("all_meta", [False, True])
@pytest.mark.parametrize(
    ("tenant", "params", "found"),
    [
        ("t1", {}, ["abc-1", "abd-1"]),
        ("t1", {"state": "any"}, ["abc-1", "abd-1"]),
        ("t1", {"recordID": "abc"}, ["abc-1"]),
        ("t1", {"recordID": "abc-2"}, []),
        ("t1", {"meetingID": "m1,m2"}, ["abc-1", "abd-1"]),
        ("t1", {"meta_color": "red"}, ["abc-1", "abd-1"]),
        ("t1", {"meta_color": "blue"}, []),
        ("t1", {"meta_size": "S"}, ["abd-1"]),
        ("t1", {"meta_tenant-id": "t2"}, []),
        ("t1", {"meta_tenant-id": "t1,t2"}, ["abc-1", "abd-1"]),
        ("t%", {}, ["a%c-1"]),
        ("t", {}, []),
        ("", {}, []),
        ("T1", {}, []),
        ("' OR 1=1 --", {}, []),
    ],
)
def test_tenant_sees_its_own_recordings_only(
    filled: Connection, tenant: str, params: dict[str, str | None], found: list[str], all_meta: bool, tenants: bool
) -> None:
    assert _found(filled, selection(params, tenant, all_meta=all_meta), tenants=tenants) == found


def test_rows_are_of_the_tenant_whatever_its_table_says(connection: Connection) -> None:
    mine = add_recording(connection, "mine", tenant="t1")
    ids = [
        mine,
        add_recording(connection, "of another", tenant="t2"),
        add_recording(connection, "of nobody"),
        add_recording(connection, "unpublished", tenant="t1", state="unpublished"),
    ]
    connection.execute(delete(tenant_recordings))
    connection.execute(
        insert(tenant_recordings),
        [{"recording_id": row_id, "tenant_id": "t1", "state": "published"} for row_id in [*ids, 1_000_000]],
    )
    queries, wanted = queries_of(connection), Selection(states=("published",), tenant_id="t1")

    assert queries.find(wanted, limit=10).total == 5
    assert [row[0] for row in queries.rows(queries.find(wanted).ids, wanted).recordings] == [mine]


def test_newest_come_first_and_those_without_time_before_all(connection: Connection) -> None:
    for record_id, start in (
        ("old", EPOCH), ("newer", EPOCH + timedelta(milliseconds=1)), ("unknown", None), ("twin", EPOCH),
        ("newest", EPOCH + timedelta(days=1)),
    ):  # fmt: skip
        add_recording(connection, record_id, start=start)
    expected = ["unknown", "newest", "newer", "twin", "old"]

    assert _found(connection, Selection()) == expected
    queries = queries_of(connection)
    paged = [queries.find(Selection(), limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [found.total for found in paged] == [5, 5, 5, 5]
    assert [_names(connection, found.ids) for found in paged] == [expected[:2], expected[2:4], expected[4:], []]


def test_rows_bring_what_belongs_to_the_recordings_in_order(connection: Connection) -> None:
    row_id = add_recording(
        connection, "r1", formats=("video", "podcast"), images=2, metadata={"z": "1", "a": None, "m": ""}
    )
    video = select(playback_formats.c.id).where(playback_formats.c.format == "video")
    connection.execute(delete(thumbnails).where(thumbnails.c.playback_format_id.in_(video)))
    other = add_recording(connection, "r2", start=EPOCH - timedelta(days=1), formats=())
    unsorted = connection.execute(
        insert(playback_formats).values(recording_id=row_id, format="notes", url=None, processing_time=7)
    ).inserted_primary_key[0]  # type: ignore[index]
    connection.execute(
        insert(thumbnails),
        [
            {"playback_format_id": unsorted, "url": f"/{sequence}", "sequence": sequence}
            for sequence in (10, 9, None, 0)
        ],
    )
    connection.execute(update(recordings).where(recordings.c.id == other).values(name=None))

    rows = queries_of(connection).rows([row_id, other])

    assert [row[0] for row in rows.recordings] == [row_id, other]
    first = rows.recordings[0]
    assert first[1:4] == ("r1", "meeting of r1", "name of r1")
    assert (bool(first[4]), bool(first[5]), first[6], first[9]) == (True, False, "published", 3)
    assert rows.recordings[1][3] is None
    assert [row[1:] for row in rows.metadata] == [("z", "1"), ("a", None), ("m", "")]
    formats = [(row[0], row[2], row[10]) for row in rows.formats]
    assert formats == [
        (row_id, "notes", "/0"),
        (row_id, "notes", "/9"),
        (row_id, "notes", "/10"),
        (row_id, "notes", "/None"),
        (row_id, "podcast", "/podcast/r1/thumb-0.png"),
        (row_id, "podcast", "/podcast/r1/thumb-1.png"),
        (row_id, "video", None),
    ]
    assert rows.formats[0][2:6] == ("notes", None, None, 7)
    assert rows.formats[4][2:10] == (
        "podcast",
        "/playback/podcast/2.3/r1",
        60,
        None,
        *rows.formats[4][6:7],
        "slide 0",
        176,
        136,
    )


def test_rows_come_in_the_order_of_their_ids_while_their_state_fits(filled: Connection) -> None:
    queries = queries_of(filled)
    ids = queries.find(Selection(states=None)).ids

    assert [row[1] for row in queries.rows(ids[::-1]).recordings] == ALL[::-1]
    chosen = Selection(states=("deleted", "unpublished"))
    assert [row[1] for row in queries.rows(ids, chosen).recordings] == ["unpublished", "deleted"]
    assert queries.rows(ids, Selection(states=())).recordings == queries.rows([]).recordings == []
    assert queries.rows([-1, ids[0], 2**62]).recordings[0][0] == ids[0]


@pytest.mark.parametrize("tenants", [False, True])
@pytest.mark.parametrize(
    ("tenant", "params"),
    [
        (None, {}),
        (None, {"recordID": "ab"}),
        (None, {"meta_color": "red,blue", "state": "any"}),
        ("t1", {}),
        ("t1", {"meta_color": "red"}),
    ],
)
def test_pages_are_parts_of_the_whole_and_know_its_size(
    filled: Connection, tenant: str | None, params: dict[str, str | None], tenants: bool
) -> None:
    queries, wanted = queries_of(filled, tenants=tenants), selection(params, tenant)
    everything = queries.find(wanted)

    assert everything.total == len(everything.ids) >= 2
    for offset in range(everything.total + 2):
        page = queries.find(wanted, limit=1, offset=offset)
        assert (page.ids, page.total) == (everything.ids[offset : offset + 1], everything.total)


def test_common_metadata_are_looked_up_among_the_tenants_recordings(connection: Connection) -> None:
    for number in range(NARROW + 5):
        tenant = "t1" if number % 100 == 0 else "t2"
        metadata = {"listed": "true", "rare": str(number % 500)}
        add_recording(connection, f"r{number:04}", formats=(), tenant=tenant, metadata=metadata)
    listed, rare = {"meta_listed": "true"}, {"meta_rare": "100"}

    for tenant, params, size in (
        ("t1", listed, 11), ("t1", rare, 2), ("t2", rare, 0), ("t1", {**listed, **rare}, 11), ("t3", listed, 0),
        (None, listed, NARROW + 5), (None, {**listed, "recordID": "r000"}, 10),
        ("t1", {**listed, "meetingID": "meeting of r0100"}, 1), ("t2", {**listed, "meetingID": "meeting of r0100"}, 0),
    ):  # fmt: skip
        assert len(_found(connection, selection(params, tenant))) == size, (tenant, params)
    both = selection({**listed, **rare}, "t1", all_meta=True)
    assert _found(connection, both) == ["r0600", "r0100"]


def test_a_null_flag_of_a_migrated_database_is_found_like_any(database_url: str) -> None:
    from scalelite.recordings.engines import open_engine

    engine = open_engine(database_url, pool=1, timeout=10)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            for column in ("published", "protected", "publish_updated"):
                connection.exec_driver_sql(f"ALTER TABLE recordings ALTER COLUMN {column} DROP NOT NULL")
            add_recording(connection, "r1", published=None, protected=None, publish_updated=None)
            queries = queries_of(connection)
            (row,) = queries.rows(queries.find(Selection()).ids).recordings
            assert row[4:6] == (None, None)
        else:
            add_recording(connection, "r1")
            assert _found(connection, Selection()) == ["r1"]
    engine.dispose()


@pytest.mark.parametrize(
    ("prefix", "bound"),
    [
        ("a", "b"),
        ("az", "a{"),
        ("a\U0010ffff", "b"),
        ("\ud7ff", "\ue000"),
        ("\U0010ffff", None),
        ("é", "ê"),
    ],
)
def test_bound_of_a_prefix_is_the_next_text_without_it(prefix: str, bound: str | None) -> None:
    assert after(prefix) == bound


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, None),
        ({"offset": "", "limit": None}, None),
        ({"offset": "x", "limit": "1.5"}, None),
        ({"limit": "10"}, Page(0, 10)),
        ({"limit": " 10 "}, Page(0, 10)),
        ({"limit": "0"}, Page(0, 1)),
        ({"limit": "-5"}, Page(0, 1)),
        ({"limit": "101"}, Page(0, 100)),
        ({"limit": "9" * 18}, Page(0, 100)),
        ({"offset": "0"}, Page(0, 100)),
        ({"offset": "-1", "limit": "5"}, Page(0, 5)),
        ({"offset": "40", "limit": "20"}, Page(40, 20)),
        ({"offset": "x", "limit": "20"}, Page(0, 20)),
        ({"offset": "٣"}, None),
        ({"offset": "9" * 19}, None),
    ],
)
def test_pages_are_bounded_as_bigbluebutton_bounds_them(params: dict[str, str | None], expected: Page | None) -> None:
    assert page(params) == expected


@pytest.mark.parametrize(
    "params",
    [
        {"recordID": ",".join(map(str, range(10_001)))},
        {"meetingID": ",".join(map(str, range(10_001)))},
        {"meta_a": ",".join(map(str, range(9_000))), "meta_b": ",".join(map(str, range(9_000)))},
    ],
)
def test_lists_without_end_are_refused(params: dict[str, str | None]) -> None:
    with pytest.raises(InternalError):
        selection(params, None)


def queries_of(connection: Connection, *, tenants: bool = True) -> RecordingQueries:
    """Queries that may be asked again and again, within the connection's transaction."""
    return RecordingQueries(fetching(connection), tenants=tenants)


def _found(connection: Connection, wanted: Selection, *, tenants: bool = True) -> list[str]:
    return _names(connection, queries_of(connection, tenants=tenants).find(wanted).ids)


def _names(connection: Connection, ids: list[int]) -> list[str]:
    return [row[1] for row in queries_of(connection).rows(ids).recordings]
