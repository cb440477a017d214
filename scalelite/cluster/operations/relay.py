"""Passing a server's answer on to the client."""

from __future__ import annotations

from collections.abc import Mapping

from scalelite.bbb.client import BackendError, BBBClient
from scalelite.bbb.errors import InternalError
from scalelite.bbb.xml import Answer
from scalelite.store.meetings import Host


async def ask(
    client: BBBClient,
    host: Host,
    action: str,
    params: Mapping[str, str | None],
    *,
    failure: str,
    body: bytes = b"",
    repeatable: bool = True,
) -> Answer:
    """A meeting's server's answer to `action`, fit to be relayed; briefly only if the server is known to be offline.

    Raises InternalError with the text `failure` if there is none.
    """
    try:
        answer = await client.call(host, action, params, body=body, hurried=not host.online, repeatable=repeatable)
    except BackendError as error:
        raise InternalError(failure) from error
    return relayable(answer, failure)


def relayable(answer: Answer, failure: str) -> Answer:
    """`answer` if a client can make sense of it: SUCCESS, or a refusal that gives its reason.

    Raises InternalError with the text `failure` for a refusal without messageKey and message or a list of errors.
    """
    root = answer.root
    if answer.success or root.find("errors") is not None:
        return answer
    if root.find("messageKey") is None or root.find("message") is None:
        raise InternalError(failure)
    return answer
