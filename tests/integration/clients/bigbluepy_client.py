"""bigbluepy: every call a POST of XML without body, parameters in the query, and a checksum over unencoded text.

So it works as long as nothing needs encoding. Given meeting ids it takes the course; without, it creates a
meeting of that name with its own defaults, such as `allowStartStopRecording=True`, and prints the refusal's key.
"""

import sys

from bigbluepy import MainBBB
from walk import walk

MODERATOR = "moderators"


class Bigbluepy:
    def __init__(self, api: str, secret: str) -> None:
        self.bbb = MainBBB(service_url=api + "/", secret=secret).api

    def create(self, meeting_id: str, name: str) -> str:
        # What is False is not sent.
        off = {"allowStartStopRecording": False, "lockSettingsLockOnJoin": False}
        return self.bbb.createMeeting(name, meeting_id, moderatorPW=MODERATOR, **off).meetingID

    def join_url(self, meeting_id: str) -> str:
        return self.bbb.joinMeeting("Ann", meeting_id, MODERATOR)

    def running(self, meeting_id: str) -> bool:
        return self.bbb.isMeetingRunning(meeting_id).running == "true"

    def info(self, meeting_id: str) -> tuple[str, int]:
        info = self.bbb.getMeetingInfo(meeting_id)
        return info.meetingName, int(info.participantCount)

    def meetings(self) -> list[str]:
        return [meeting["meetingID"] for meeting in self.bbb.getMeetings().meetings["meeting"]]

    def end(self, meeting_id: str) -> None:
        assert self.bbb.endMeeting(meeting_id, MODERATOR).returncode == "SUCCESS"

    def refusal(self, meeting_id: str) -> str:
        # Its class for the answer takes no refusal.
        try:
            self.bbb.getMeetingInfo(meeting_id)
        except TypeError:
            return "notFound"
        return "known"


if len(sys.argv) > 4:
    walk(Bigbluepy)
else:
    sys.stdout.write(Bigbluepy(*sys.argv[1:3]).bbb.createMeeting(sys.argv[3], "refused").messageKey)
