"""python-sage-bbb: sorted parameters, and of an answer only what stands directly below its root."""

from sage_bbb.services.client import BigBlueButtonClient
from walk import MODERATOR_PW, walk


class SageBbb:
    def __init__(self, api: str, secret: str) -> None:
        self.client = BigBlueButtonClient(api, secret)
        assert self.client.check_connection()["returncode"] == "SUCCESS"

    def create(self, meeting_id: str, name: str) -> str:
        meeting = self.client.meetings.create_meeting(name, meeting_id, "attendee's", MODERATOR_PW)
        return meeting.meeting_id

    def join_url(self, meeting_id: str) -> str:
        return self.client.meetings.join_meeting(meeting_id, "Ann", MODERATOR_PW)

    def running(self, meeting_id: str) -> bool:
        return self.client.meetings.is_meeting_running(meeting_id)["running"] == "true"

    def info(self, meeting_id: str) -> tuple[str, int]:
        info = self.client.meetings.get_meeting_info(meeting_id)
        return info["meetingName"], int(info["participantCount"])

    def meetings(self) -> None:
        # The library shows that there is a list, not what is in it.
        assert "meetings" in self.client.meetings.get_meetings()

    def end(self, meeting_id: str) -> None:
        assert self.client.meetings.end_meeting(meeting_id, MODERATOR_PW)["returncode"] == "SUCCESS"

    def refusal(self, meeting_id: str) -> str:
        return self.client.meetings.get_meeting_info(meeting_id)["messageKey"]


walk(SageBbb)
