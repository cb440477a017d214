"""Hooks for schemathesis: signs the calls that it makes up, as they are about to be sent."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import requests
import schemathesis

SECRET = os.environ["SCALELITE_TEST_SECRET"].encode()
_numbers = count()


class Signing(requests.auth.AuthBase):
    """Signs every second call with a checksum, the others by a signature over body and time."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        parts = urlsplit(request.url or "")
        action = parts.path.rpartition("/")[2].partition(".")[0]
        number = next(_numbers)
        # Those that schemathesis makes up for the security schemes.
        for name in ("X-Scalelite-Time", "X-Scalelite-Signature"):
            request.headers.pop(name, None)
        query = "&".join(p for p in parts.query.split("&") if p and not p.startswith("checksum="))
        if number % 2:
            checksum = hashlib.sha256(action.encode() + query.encode() + SECRET).hexdigest()
            query += f"{'&' if query else ''}checksum={checksum}"
        else:
            # Two equal calls within a second are two calls.
            query += f"{'&' if query else ''}number={number}"
            moment = str(int(time.time()))
            body = request.body or b""
            text = f"{request.method}\n{action}\n{query}\n{moment}\n".encode()
            signed = hmac.new(SECRET, text + (body.encode() if isinstance(body, str) else body), hashlib.sha256)
            request.headers["X-Scalelite-Time"] = moment
            request.headers["X-Scalelite-Signature"] = signed.hexdigest()
        request.url = urlunsplit(parts._replace(query=query))
        return request


schemathesis.auth.set_from_requests(Signing())
