"""Recordings of the simulator appear late, are found by filter, and are announced."""

from __future__ import annotations

import json

import pytest
import pytest_twisted

from tests.simulator.peer import World, call, fetch, target


def found(answer: object) -> list[str | None]:
    return [element.text for element in answer.xml.iterfind("recordings/recording/meetingID")]  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_a_recording_appears_minutes_after_the_end_if_the_button_was_pressed(world: World) -> None:
    for meeting_id, record in (("with", "true"), ("unpressed", "true"), ("without", "false")):
        await call(world.node, "create", meetingID=meeting_id, name="A & B", record=record, meta_Course="algebra")
        world.node.add_users(meeting_id, 2)
        if meeting_id != "unpressed":
            world.node.press_record(meeting_id)
        world.node.end(meeting_id, at_once=True)
    assert (await call(world.node, "getRecordings")).key == "noRecordings"
    assert found(await call(world.node, "getRecordings", state="processing")) == ["with"]
    world.pass_time(601)
    answer = await call(world.node, "getRecordings")
    assert found(answer) == ["with"]
    assert answer.text("recordings/recording/metadata/meetingName") == "A & B"
    assert answer.text("recordings/recording/metadata/course") == "algebra"
    assert answer.text("recordings/recording/participants") == "2"
    assert answer.xml.find("recordings/recording/playback/format/preview/images/image") is not None
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {"one", "two", "three"}),
        ({"meetingID": "one,three"}, {"one", "three"}),
        ({"meetingID": "four"}, set()),
        ({"meta_course": "alg%"}, {"one", "two"}),
        ({"meta_course": "algebra"}, {"one"}),
        ({"meta_course": "alg"}, set()),
        ({"state": "unpublished"}, {"three"}),
        ({"state": "published"}, {"one", "two"}),
        ({"state": "any"}, {"one", "two", "three", "four"}),
        ({"state": "deleted"}, {"four"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_recordings_are_filtered(world: World, params: dict[str, str], expected: set[str]) -> None:
    node = world.node
    node.publish_recording("one", metadata={"course": "algebra"})
    node.publish_recording("two", metadata={"course": "algorithms"})
    three, four = node.publish_recording("three"), node.publish_recording("four")
    await call(node, "publishRecordings", recordID=three.record_id, publish="false")
    await call(node, "deleteRecordings", recordID=four.record_id)
    assert set(found(await call(node, "getRecordings", **params))) == expected


@pytest_twisted.ensureDeferred
async def test_a_record_id_may_be_a_prefix(world: World) -> None:
    recording = world.node.publish_recording("one", formats=("presentation", "video"))
    world.node.publish_recording("two")
    answer = await call(world.node, "getRecordings", recordID=recording.record_id[:20])
    assert found(answer) == ["one"]
    types = [e.text for e in answer.xml.iterfind("recordings/recording/playback/format/type")]
    assert types == ["presentation", "video"]
    page = await fetch(world.node, "GET", recording.playback[0].url.removeprefix(world.node.base_url))
    assert page.status == 200


@pytest.mark.parametrize(
    ("profile", "path", "shape"),
    [("2.6", "pagination/totalElements", "pagination"), ("3.0", "totalElements", "total")],
)
@pytest_twisted.ensureDeferred
async def test_pages_of_recordings_tell_the_total(world: World, profile: str, path: str, shape: str) -> None:
    node = await world.sim.add_node(profile=profile)
    node.fill_recordings(7)
    answer = await call(node, "getRecordings", offset="5", limit="3")
    assert (len(found(answer)), answer.text(path)) == (2, "7")
    assert (answer.xml.find("pagination") is not None) is (shape == "pagination")


@pytest_twisted.ensureDeferred
async def test_recordings_are_changed_by_their_ids(world: World) -> None:
    recording = world.node.publish_recording("one", metadata={"course": "algebra", "term": "1"})
    identity = recording.record_id
    changed = await call(world.node, "updateRecordings", recordID=identity, meta_Course="", meta_Room="5")
    assert changed.text("updated") == "true"
    assert {"course", "term", "room"} & recording.metadata.keys() == {"term", "room"}
    assert (await call(world.node, "publishRecordings", recordID=identity)).key == "missingParamPublish"
    assert (await call(world.node, "publishRecordings", publish="true")).key == "missingParamRecordID"
    assert (await call(world.node, "deleteRecordings", recordID="no")).key == "notFound"
    assert (await call(world.node, "deleteRecordings", recordID=f"no,{identity}")).text("deleted") == "true"
    assert (await call(world.node, "deleteRecordings", recordID=identity)).key == "notFound"


@pytest_twisted.ensureDeferred
async def test_a_node_may_refuse_to_list_all_recordings(world: World) -> None:
    node = await world.sim.add_node(allow_fetch_all_recordings=False)
    node.publish_recording("one")
    answer = await call(node, "getRecordings")
    assert (answer.key, answer.xml.find("recordings")) == ("noRecordings", None)
    assert found(await call(node, "getRecordings", meetingID="one")) == ["one"]


@pytest_twisted.ensureDeferred
async def test_text_tracks_are_put_and_found_in_json(world: World) -> None:
    identity = world.node.publish_recording("one").record_id
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.vtt"\r\n'
        b"Content-Type: text/vtt\r\n\r\nWEBVTT\r\n--xyz--\r\n"
    )
    params = {"recordID": identity, "kind": "subtitles", "lang": "en-US", "label": "English"}
    content_type = "multipart/form-data; boundary=xyz"

    async def put(**other: str) -> str:
        where = target(world.node, "putRecordingTextTrack", {**params, **other})
        return str(
            json.loads((await fetch(world.node, "POST", where, body, content_type)).body)["response"]["messageKey"]
        )

    assert await put(kind="songs") == "invalidKind"
    assert await put(lang="x") == "invalidLang"
    assert await put(recordID="no") == "noRecordings"
    assert await put() == "upload_text_track_success"
    answer = json.loads((await call(world.node, "getRecordingTextTracks", recordID=identity)).body)["response"]
    assert [(t["kind"], t["lang"], t["label"], t["source"]) for t in answer["tracks"]] == [
        ("subtitles", "en-US", "English", "upload")
    ]
    assert (await call(world.node, "getRecordingTextTracks", recordID="no")).key == "noRecordings"
