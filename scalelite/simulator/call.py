"""One call of the API, as the functions that answer it get it."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

import attrs

from scalelite.simulator.http import Request, Response

if TYPE_CHECKING:
    from scalelite.simulator.forms import Upload
    from scalelite.simulator.node import Node

__all__ = ["Call", "Endpoint"]


@attrs.define(eq=False)
class Call:
    """A call. `params` are those of the query and, under them, of a form body; `files` of a multipart body."""

    name: str
    request: Request
    params: dict[str, str]
    files: dict[str, Upload] = attrs.field(factory=dict)

    @property
    def wants_json(self) -> bool:
        """Whether the client prefers JSON, by `Accept`."""
        return b"json" in self.request.headers.get(b"accept", b"")

    def cookie(self, name: str) -> str:
        """A cookie of the request, or nothing."""
        raw = self.request.headers.get(b"cookie", b"").decode("latin-1")
        try:
            found = SimpleCookie(raw).get(name)
        except CookieError:
            return ""
        return found.value if found is not None else ""


@attrs.frozen
class Endpoint:
    """How a call is answered; `checked`: it is signed, and with a checksum."""

    answer: Callable[[Node, Call], Response]
    checked: bool = True
    refusal: str = ""
