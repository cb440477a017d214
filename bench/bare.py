"""`python -m bench.bare PORT`: the least that twisted.web can do, tuned as well as it can be."""

from __future__ import annotations

import gc
import sys

from twisted.internet import reactor
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

BODY = b"<response><returncode>SUCCESS</returncode><version>2.0</version></response>"


class Small(Resource):
    """Answers everything with the same small body."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return BODY


class Silent(Site):
    """Without an access log."""

    def log(self, request: Request) -> None:
        """Nothing is logged."""


def main(port: int) -> None:
    reactor.listenTCP(port, Silent(Small()), backlog=1024, interface="127.0.0.1")
    gc.collect()
    gc.freeze()
    gc.set_threshold(50000, 50, 50)
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
