"""A client of the REST API, as a test needs it: it signs like Scalelite's clients, or as told."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import attrs

from tests.balancer import SECRET, Answer, Balancer

JSON = "application/json"


@attrs.define
class Rest:
    """Calls of one balancer's API."""

    balancer: Balancer
    secret: str = SECRET

    def url(self, path: str, query: str = "") -> str:
        return f"http://127.0.0.1:{self.balancer.port}/scalelite/api/{path}{'?' if query else ''}{query}"

    def signed_query(self, action: str, query: str = "", algorithm: str = "sha256") -> str:
        """The query with its checksum."""
        checksum = self.balancer.sign(action, query, secret=self.secret, algorithm=algorithm)
        return f"{query}{'&' if query else ''}checksum={checksum}"

    async def get(self, action: str, query: str = "", **headers: str) -> Answer:
        return await self.balancer.request("GET", self.url(action, self.signed_query(action, query)), headers=headers)

    async def post(
        self, action: str, body: Any = None, query: str = "", *, content_type: str | None = JSON, **headers: str
    ) -> Answer:
        """POST a body: bytes as they are, else as JSON; None for none at all."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if content_type is not None:
            headers["Content-Type"] = content_type
        url = self.url(action, self.signed_query(action, query))
        return await self.balancer.request("POST", url, body=raw, headers=headers)

    async def hmac_signed(
        self,
        method: str,
        action: str,
        query: str = "",
        body: bytes = b"",
        *,
        at: float | str | None = None,
        sent: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """A call whose signature covers its time `at` and `body`; `sent` is sent instead of that."""
        moment = str(int(time.time() if at is None else at)) if not isinstance(at, str) else at
        text = f"{method}\n{action}\n{query}\n{moment}\n".encode() + body
        signed = hmac.new(self.secret.encode(), text, hashlib.sha256).hexdigest()
        headers = {"X-Scalelite-Time": moment, "X-Scalelite-Signature": signed, "Content-Type": JSON, **headers}
        raw = body if sent is None else sent
        return await self.balancer.request(method, self.url(action, query), body=raw or None, headers=headers)

    async def stored(self, key: str) -> dict[str, str]:
        """A hash as it is in Redis."""
        flat = await self.balancer.redis("HGETALL", self.balancer.key(key))
        return dict(flat) if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))

    async def keys(self) -> set[str]:
        """The names of all keys, but those of spent signatures and of the audit log."""
        names = {name.removeprefix(self.balancer.key("")) for name in await self.balancer.redis("KEYS", "*")}
        return {name for name in names if not name.startswith("balancer:")}


def said(answer: Answer) -> tuple[int, Any]:
    """Status and JSON content."""
    assert answer.headers["content-type"] == "application/json; charset=utf-8", answer
    return answer.code, json.loads(answer.body)


def refused(answer: Answer, key: str, message: str | None = None) -> bool:
    """Whether a call was answered as those are that are not let in: 200, and XML."""
    assert answer.headers["content-type"] == "application/xml; charset=utf-8", answer
    assert answer.body.startswith(b'<?xml version="1.0"?>\n<response>\n  <returncode>FAILED</returncode>\n')
    return (answer.code, answer.key) == (200, key) and message in (None, answer.message)
