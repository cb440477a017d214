"""Bodies of requests: multipart forms and the XML that carries presentations."""

from __future__ import annotations

import re

import attrs
from lxml import etree

__all__ = ["Upload", "documents", "multipart"]

_DISPOSITION = re.compile(rb'content-disposition:[^\r\n]*?\bname="([^"]*)"(?:[^\r\n]*?\bfilename="([^"]*)")?', re.I)
_BOUNDARY = re.compile(rb'boundary="?([^";,]+)"?', re.I)
MAX_PARTS = 1000


@attrs.frozen
class Upload:
    """A file of a multipart form."""

    filename: str
    content: bytes


def multipart(content_type: bytes, body: bytes) -> tuple[dict[str, str], dict[str, Upload]]:
    """Fields and files of a multipart/form-data body; what cannot be read is left out."""
    fields: dict[str, str] = {}
    files: dict[str, Upload] = {}
    found = _BOUNDARY.search(content_type)
    if found is None:
        return fields, files
    for part in (b"\r\n" + body).split(b"\r\n--" + found[1])[1:MAX_PARTS]:
        head, separator, content = part.partition(b"\r\n\r\n")
        disposition = _DISPOSITION.search(head)
        if not separator or disposition is None:
            continue
        name = disposition[1].decode("utf-8", "replace")
        if disposition[2] is None:
            fields.setdefault(name, content.decode("utf-8", "replace"))
        else:
            files.setdefault(name, Upload(disposition[2].decode("utf-8", "replace"), content))
    return fields, files


def documents(body: bytes) -> list[str]:
    """The presentations of a `<modules>` body that a server would take: https URLs, or names of embedded files.

    A body that is not XML holds none; a server only logs that.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError:
        return []
    taken = []
    for document in root.iterfind("module[@name='presentation']/document"):
        url = document.get("url", "")
        if url.startswith("https://"):
            taken.append(str(url))
        elif not url and document.text:
            taken.append(str(document.get("name", "")))
    return taken
