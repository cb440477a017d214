"""Which servers may take a new meeting: the tag rule. The choice itself is one atomic step in the store."""

from __future__ import annotations

import attrs

UNTAGGED = "none"
"""In a list of tags, stands for servers without a tag."""


@attrs.frozen
class TagRequest:
    """The tags that a create call asks for; any of them will do, and the least loaded server wins.

    If none is available, a server without a tag takes the meeting, unless the tags are `required`.
    """

    tags: tuple[str, ...] = ()
    required: bool = False
    text: str = ""
    """The list as the client wrote it, without the final `!`."""


def parse_tags(text: str | None) -> TagRequest:
    """Read `meta_server-tag`: tags separated by `;`, a final `!` makes them required (Scalelite: tags).

    Nothing is trimmed and case counts. Blank, or a lone `!`, asks for nothing.
    """
    if text is None or not text.strip():
        return TagRequest()
    required = text.endswith("!")
    if required:
        text = text[:-1]
        if not text.strip():
            return TagRequest()
    parts = text.split(";")
    while parts and not parts[-1]:
        parts.pop()
    return TagRequest(tuple(parts), required, text)
