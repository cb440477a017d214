"""bbb-client: reads nothing but `text/xml`, joins by role, ends with the password that getMeetingInfo tells."""

import warnings

from walk import MODERATOR_PW, walk

warnings.simplefilter("ignore")  # it asks setuptools for its own version, which setuptools regrets

from bbb_client.domain.meeting_management.model import Bbb, MeetingDoesNotExist  # noqa: E402


class BbbClient:
    def __init__(self, api: str, secret: str) -> None:
        self.bbb = Bbb(api, secret)

    def create(self, meeting_id: str, name: str) -> str:
        assert self.bbb.create_meeting(meeting_id, name, MODERATOR_PW, "attendee's")
        return self.bbb.get_meeting_info(meeting_id).meetingID

    def join_url(self, meeting_id: str) -> str:
        return self.bbb.generate_join_url(meeting_id, "Ann", moderator=True)

    def running(self, meeting_id: str) -> None:
        return None

    def info(self, meeting_id: str) -> tuple[str, int]:
        info = self.bbb.get_meeting_info(meeting_id)
        return info.meetingName, int(info.participantCount)

    def meetings(self) -> list[str]:
        return [meeting.meetingID for meeting in self.bbb.get_meetings()]

    def end(self, meeting_id: str) -> None:
        assert self.bbb.end_meeting(meeting_id)

    def refusal(self, meeting_id: str) -> str:
        try:
            self.bbb.get_meeting_info(meeting_id)
        except MeetingDoesNotExist:
            return "notFound"
        return "known"


walk(BbbClient)
