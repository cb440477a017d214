"""What each Python client library makes of recordings: `python recordings.py LIBRARY API SECRET MEETING RECORD`.

Lists a meeting's recordings, changes one, unpublishes, publishes and deletes it. Prints JSON with what it saw.
"""

import json
import sys
from typing import Any


class Bbbctl:
    """bbbctl: ElementTree in return."""

    def __init__(self, api: str, secret: str) -> None:
        from bbbctl import BBBApiClient

        self.api = BBBApiClient(api, secret)

    def list(self, meeting: str) -> list[dict[str, Any]]:
        return [
            {
                "id": found.findtext("recordID"), "name": found.findtext("name"), "state": found.findtext("state"),
                "color": found.findtext("metadata/color"), "url": found.findtext("playback/format/url"),
            }
            for found in self.api.getRecordings(meetingID=meeting)
        ]  # fmt: skip

    def recolor(self, record: str, color: str) -> bool:
        return bool(self.api.call("updateRecordings", recordID=record, meta_color=color).findtext("updated") == "true")

    def publish(self, record: str, published: bool) -> bool:
        return bool(self.api.publishRecordings(record, str(published).lower()).findtext("published") == "true")

    def delete(self, record: str) -> bool:
        return bool(self.api.deleteRecordings(record).findtext("deleted") == "true")


class ApiPython:
    """bigbluebutton-api-python: sends an empty `recordID`, and expects every field of a recording."""

    def __init__(self, api: str, secret: str) -> None:
        from bigbluebutton_api_python import BigBlueButton

        self.bbb = BigBlueButton(api, secret)

    def list(self, meeting: str) -> list[dict[str, Any]]:
        # One recording alone it takes for none: the library iterates over its fields.
        answer = self.bbb.get_recordings(meeting_id=meeting)
        recordings = answer.get_field("recordings")
        if not recordings:
            return []
        from bigbluebutton_api_python.core.record import Record

        found = recordings["recording"]
        return [
            {
                "id": str(record.get_recordid()), "name": str(record.get_name()), "state": str(record.get_state()),
                "color": str(record.get_meta("color")), "url": str(record.get_playbackurl()),
            }
            for record in map(Record, found if isinstance(found, list) else [found])
        ]  # fmt: skip

    def recolor(self, record: str, color: str) -> bool:
        return bool(self.bbb.update_recordings(record, meta={"color": color}).get_field("updated") == "true")

    def publish(self, record: str, published: bool) -> bool:
        return bool(self.bbb.publish_recordings(record, published).get_field("published") == "true")

    def delete(self, record: str) -> bool:
        return bool(self.bbb.delete_recordings(record).get_field("deleted") == "true")


library, api, secret, meeting, record = sys.argv[1:]
client = {"bbbctl": Bbbctl, "bigbluebutton_api_python": ApiPython}[library](api, secret)
seen = {
    "first": client.list(meeting),
    "recolored": client.recolor(record, "grün & blau"),
    "unpublished": client.publish(record, False),
    "second": client.list(meeting),
    "published": client.publish(record, True),
    "deleted": client.delete(record),
    "last": client.list(meeting),
}
json.dump(seen, sys.stdout)
