"""Every error a BBB client can be answered with, by name; rendered as XML in `scalelite.bbb.xml` only."""

from __future__ import annotations


class BBBError(Exception):
    """A FAILED answer: `message_key` for programs, `message` for people."""

    def __init__(self, message_key: str, message: str) -> None:
        super().__init__(f"{message_key}: {message}")
        self.message_key = message_key
        self.message = message


class ChecksumError(BBBError):
    """The call is not signed with a valid secret, or the tenant is unknown."""

    def __init__(self) -> None:
        super().__init__("checksumError", "You did not pass the checksum security check")


class MeetingNotFound(BBBError):
    """No meeting of that id is known (to this tenant)."""

    def __init__(self) -> None:
        super().__init__(
            "notFound",
            "We could not find a meeting with that meeting ID - perhaps the meeting is not yet running?",
        )


class RecordingsNotFound(BBBError):
    """No recording matches."""

    def __init__(self) -> None:
        super().__init__("notFound", "We could not find recordings")


class MissingRecordID(BBBError):
    """The parameter recordID is absent or blank."""

    def __init__(self) -> None:
        super().__init__("missingParamRecordID", "You must specify a recordID.")


class MissingPublish(BBBError):
    """The parameter publish is absent or blank."""

    def __init__(self) -> None:
        super().__init__("missingParamPublish", "You must specify a publish value true or false.")


class MissingFilter(BBBError):
    """getRecordings was asked for all recordings, where that is switched off."""

    def __init__(self) -> None:
        super().__init__("missingParameters", "param meetingID or recordID must be included.")


class MissingMeetingID(BBBError):
    """The parameter meetingID is absent or blank."""

    def __init__(self) -> None:
        super().__init__("missingParamMeetingID", "You must specify a meeting ID for the meeting.")


class UnsupportedRequest(BBBError):
    """No such route, or not with this method."""

    def __init__(self) -> None:
        super().__init__("unsupportedRequest", "This request is not supported.")


class UnsupportedContentType(BBBError):
    """A body came with a missing or unknown media type."""

    def __init__(self) -> None:
        super().__init__("unsupportedContentType", "POST request Content-Type is missing or unsupported")


class ServerUnavailable(BBBError):
    """The meeting's server is offline or disabled: nobody can be sent there now."""

    def __init__(self) -> None:
        super().__init__("serverUnavailable", "The server for this meeting is disabled/offline.")


class ServerTagUnavailable(BBBError):
    """A tag was required (trailing `!`) and no available server has it."""

    def __init__(self, tag: str) -> None:
        super().__init__("serverTagUnavailable", f"There is no available server with the required tag={tag}.")


class InternalError(BBBError):
    """Trouble with a backend, the store, or the request itself."""

    def __init__(self, message: str) -> None:
        super().__init__("internalError", message)


NO_SERVERS = "Could not find any available servers."
CREATE_FAILED = "Unable to create meeting on server."
MEETING_UNREACHABLE = "Unable to access meeting on server."
SERVER_UNREACHABLE = "Unable to access server."
INSERT_FAILED = "Unable to insert document on server."
SEND_CHAT_FAILED = "Unable to send chat message on server."
PUBLISH_FAILED = "Unable to publish/unpublish recording."
DELETE_FAILED = "Unable to delete recording."
STORE_UNREACHABLE = "Unable to access the data store."
MALFORMED_REQUEST = "The request could not be parsed."
REQUEST_TOO_LARGE = "The request is too large."
UNEXPECTED = "An unexpected error occurred."
