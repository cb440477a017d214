"""Many questions to servers at once, all answered or given up by one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from scalelite.bbb.client import BackendError, BBBClient, NoAnswer
from scalelite.bbb.xml import Answer
from scalelite.cluster.records import Meeting

T = TypeVar("T")


class Asked(Protocol):
    """What must be known of a server to ask it."""

    @property
    def url(self) -> str: ...
    @property
    def secret(self) -> str: ...
    @property
    def online(self) -> bool: ...


@attrs.frozen
class Question:
    """A call to one server."""

    server: Asked
    action: str
    params: Mapping[str, str | None] = attrs.field(factory=dict, repr=False)


async def ask_all(
    client: BBBClient, clock: IReactorTime, deadline: float, questions: Sequence[Question]
) -> list[Answer | BackendError]:
    """What each server says, or why there is no answer, in the order of the questions.

    The client lets only so many at once reach one server; `deadline` is in seconds, for all of them together.
    """
    limit = clock.seconds() + deadline

    async def one(question: Question) -> Answer | BackendError:
        try:
            return await ask_until(client, clock, limit, question)
        except BackendError as error:
            return error

    return await all_of([Deferred.fromCoroutine(one(question)) for question in questions])


async def ask_until(client: BBBClient, clock: IReactorTime, limit: float, question: Question) -> Answer:
    """Ask one server until `limit`, a time of `clock`. Raises BackendError."""
    server = question.server
    call = Deferred.fromCoroutine(client.call(server, question.action, question.params, hurried=not server.online))
    return await call.addTimeout(max(0.0, limit - clock.seconds()), clock, _out_of_time)


async def end_until(
    client: BBBClient, clock: IReactorTime, limit: float, server: Asked, meeting: Meeting
) -> str | None:
    """End a meeting. Why it may still run; None if the server says that it is over."""
    params = {"meetingID": meeting.id, "password": meeting.moderator_pw or ""}
    try:
        answer = await ask_until(client, clock, limit, Question(server, "end", params))
    except BackendError as error:
        return str(error)
    if answer.success or answer.text("messageKey") == "notFound":
        return None
    return reason_of(answer)


def reason_of(answer: Answer) -> str:
    """What a refusal says."""
    return f"{answer.text('messageKey')}: {answer.text('message')}"


def _out_of_time(_result: object, _seconds: float) -> NoReturn:
    raise NoAnswer("no answer before the command's time was up")


async def all_of(tasks: list[Deferred[T]]) -> list[T]:
    """The results of all tasks, once all have come to an end; raises what the first of the failed ones raised.

    Cancelled, it cancels those that are still under way.
    """
    outcomes: Any = await DeferredList(tasks, consumeErrors=True)
    results: list[T] = []
    for succeeded, result in outcomes:
        if not succeeded:
            result.raiseException()
        results.append(result)
    return results
