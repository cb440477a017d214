import pytest_twisted

from tests.balancer import Balancer


@pytest_twisted.ensureDeferred
async def test_a_meeting_is_created_joined_listed_and_ended(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    created = await balancer.call("create", meetingID="m1", name="Meeting")
    assert created.returncode == "SUCCESS"
    joined = await balancer.call("join", meetingID="m1", fullName="Ada", role="MODERATOR")
    assert joined.code == 302
    assert balancer.living_on("m1") == [await balancer.where("m1")]
    listed = await balancer.call("getMeetings")
    assert listed.text("meetings/meeting/meetingID") == "m1"
    assert (await balancer.call("end", meetingID="m1")).key == "sentEndMeetingRequest"
    assert await balancer.where("m1") is None
