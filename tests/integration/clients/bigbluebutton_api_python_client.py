"""bigbluebutton-api-python, a port of the PHP library: a class for every answer, all fields of a meeting expected."""

from bigbluebutton_api_python import BigBlueButton
from bigbluebutton_api_python.exception import BBBException
from walk import MODERATOR_PW, walk


class ApiPython:
    def __init__(self, api: str, secret: str) -> None:
        self.bbb = BigBlueButton(api, secret)

    def create(self, meeting_id: str, name: str) -> str:
        params = {"name": name, "moderatorPW": MODERATOR_PW}
        return str(self.bbb.create_meeting(meeting_id, params=params, meta={"origin": "tests"}).get_field("meetingID"))

    def join_url(self, meeting_id: str) -> str:
        return self.bbb.get_join_meeting_url("Ann", meeting_id, MODERATOR_PW)

    def running(self, meeting_id: str) -> bool:
        return self.bbb.is_meeting_running(meeting_id).is_meeting_running()

    def info(self, meeting_id: str) -> tuple[str, int]:
        info = self.bbb.get_meeting_info(meeting_id).get_meetinginfo()
        return str(info.get_meetingname()), info.get_participantcount()

    def meetings(self) -> list[str]:
        return [str(meeting.get_meetingid()) for meeting in self.bbb.get_meetings().get_meetings()]

    def end(self, meeting_id: str) -> None:
        assert self.bbb.end_meeting(meeting_id, MODERATOR_PW).get_return_code() == "SUCCESS"

    def refusal(self, meeting_id: str) -> str:
        try:
            self.bbb.get_meeting_info(meeting_id)
        except BBBException as error:
            return str(error.key)
        return "known"


walk(ApiPython)
