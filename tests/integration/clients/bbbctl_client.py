"""bbbctl, a library without dependencies: any action by `call`, ElementTree in return."""

from bbbctl import ApiError, BBBApiClient
from walk import MODERATOR_PW, walk


class Bbbctl:
    def __init__(self, api: str, secret: str) -> None:
        self.api = BBBApiClient(api, secret)

    def create(self, meeting_id: str, name: str) -> str:
        return self.api.createMeeting(meeting_id, name, moderatorPW=MODERATOR_PW).findtext("meetingID")

    def join_url(self, meeting_id: str) -> str:
        return self.api.getJoinLink(meeting_id, "Ann", role="MODERATOR")

    def running(self, meeting_id: str) -> bool:
        return self.api.call("isMeetingRunning", meetingID=meeting_id).findtext("running") == "true"

    def info(self, meeting_id: str) -> tuple[str, int]:
        root = self.api.getMeetingInfo(meeting_id)
        return root.findtext("meetingName"), int(root.findtext("participantCount"))

    def meetings(self) -> list[str]:
        return [meeting.findtext("meetingID") for meeting in self.api.getMeetings()]

    def end(self, meeting_id: str) -> None:
        self.api.end(meeting_id, password=MODERATOR_PW)

    def refusal(self, meeting_id: str) -> str:
        try:
            self.api.getMeetingInfo(meeting_id)
        except ApiError as error:
            return error.tree.findtext("messageKey")
        return "known"


walk(Bbbctl)
