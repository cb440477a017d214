"""Routes: Klein holds every one, and from its map comes the table by which hot paths skip its router."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from klein import Klein
from twisted.web import resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from scalelite.api.replies import UNSUPPORTED, Reply
from scalelite.api.site import Handler, Request, Table


class _Anything(BaseConverter):
    """The rest of a path, as it is: empty, doubled and trailing slashes included."""

    regex = r"[\s\S]*?"
    part_isolating = False


class Routes:
    """A Klein application whose handlers return a Reply, and the table made from it."""

    def __init__(self) -> None:
        self.app = Klein()
        self.app.url_map.converters["anything"] = _Anything
        self._handlers: dict[str, Handler] = {}
        self.app.handle_errors(HTTPException)(cast(Any, self._unsupported))

    def add(self, path: str, methods: Iterable[str], handler: Handler) -> None:
        """Let `handler` answer `path` for `methods`; GET brings HEAD."""
        endpoint = f"{path} {','.join(sorted(methods))}"
        self._handlers[endpoint] = handler

        def route(_request: Request, **_: str) -> resource.Resource:
            return _Answering(handler)

        self.app.route(path, methods=list(methods), endpoint=endpoint)(cast(Any, route))

    def add_below(self, prefix: str, methods: Iterable[str], handler: Handler) -> None:
        """Let `handler` answer every path that begins with `prefix`, which ends with a slash."""
        self.add(f"{prefix}<anything:rest>", methods, handler)

    def table(self) -> Table:
        """Every route without variable parts: path to method to handler."""
        table: dict[bytes, dict[bytes, Handler]] = {}
        for rule in self.app.url_map.iter_rules():
            handler = self._handlers.get(rule.endpoint)
            if handler is not None and not rule.arguments:
                by_method = table.setdefault(rule.rule.rstrip("/").encode() or b"/", {})
                by_method.update((method.encode(), handler) for method in rule.methods or ())
        return table

    def _unsupported(self, request: Any, _failure: Any) -> resource.Resource:
        return _Answering(unsupported)


class _Answering(resource.Resource):
    """Answers one request by a handler.

    Klein takes resources as results and then leaves the request to them; a Deferred it would cancel when the
    client goes away, and a create must be settled all the same.
    """

    isLeaf = True

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler

    def render(self, request: Request) -> int:
        request.handle(self._handler)
        return NOT_DONE_YET


def unsupported(request: Request) -> Reply:
    """The answer for everything that is no route, or not with that method."""
    request.note = "unsupportedRequest"
    return UNSUPPORTED
