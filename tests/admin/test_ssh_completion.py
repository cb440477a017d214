"""What Tab offers, and what viewers may see."""

from __future__ import annotations

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from scalelite.admin.commands import TABLE
from scalelite.admin.ssh.completion import MOST, PATIENCE, Completer
from scalelite.admin.ssh.keys import Role
from scalelite.admin.ssh.session import for_role, permitted
from scalelite.admin.table import SHOW_SECRETS, Argument, Call, Command, Context, Failed, Flag
from tests.admin.desk import Desk, hold_meetings
from tests.admin.recordings_desk import Shelf, shelf
from tests.balancer import Balancer

__all__ = ["shelf"]


async def nothing(_context: Context, _call: Call) -> int:
    return 0


def row(name: str, *arguments: Argument, flags: tuple[Flag, ...] = ()) -> Command:
    return Command(name, nothing, name, name, arguments, flags)


ROWS = {
    command.name: command
    for command in (
        row("meetings:end", Argument("ids", "", many=True)),
        row("why", Argument("meeting_id", "")),
        row("tenants:remove", Argument("id", "")),
        row("other", Argument("id", "")),
    )
}


async def offered(desk: Desk, before: str) -> list[str]:
    found = await Completer({**TABLE, **ROWS}, desk.pool)(before)
    assert before.startswith(found.start)
    return list(found.words)


@pytest_twisted.ensureDeferred
async def test_commands_and_flags_are_offered(desk: Desk) -> None:
    assert {"servers", "servers:add", "status", "exit", "help"} <= set(await offered(desk, ""))
    assert await offered(desk, "servers:en") == ["servers:enable"]
    assert await offered(desk, "help servers:en") == ["servers:enable"]
    assert await offered(desk, "servers --") == ["--help", "--json", "--show-secrets"]
    assert await offered(desk, "servers:disable x --f") == ["--force"]
    assert await offered(desk, "nonsense ") == []
    assert await offered(desk, "status ") == []
    assert await offered(desk, "other ") == []


@pytest_twisted.ensureDeferred
async def test_options_and_their_values_are_offered(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.tenants.add("t9", "school", "secret")
    assert await offered(desk, "recordings:list --st") == ["--state"]
    assert await offered(desk, "recordings:list --state pro") == ["processed", "processing"]
    assert await offered(desk, "recordings:list --tenant ") == ["t9"]
    assert await offered(desk, "recordings:list --limit ") == []
    assert await offered(desk, "recordings:list --state published ") == []


@pytest_twisted.ensureDeferred
async def test_without_a_database_no_recordings_are_offered(desk: Desk) -> None:
    assert await offered(desk, "recordings:info ") == []


@pytest_twisted.ensureDeferred
async def test_recordings_are_offered_by_the_beginning_of_their_ids(shelf: Shelf) -> None:
    for record_id in ("a-1", "a-2", "a_3", "b-1"):
        await shelf.add(record_id, files=False)
    await shelf.add("a-4", files=False, formats=(), state="deleted")
    assert await offered(shelf.desk, "recordings:info a-") == ["a-1", "a-2"]
    assert await offered(shelf.desk, "recordings:delete a-1 a_") == ["a_3"]
    assert await offered(shelf.desk, "recordings:delete a-1:") == ["a-1:a-2", "a-1:a_3", "a-1:b-1"]


@pytest_twisted.ensureDeferred
async def test_ids_are_offered_as_they_are_in_the_store(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "room-1", "room-2", "a room", server_id="s1")
    await balancer.add_server("s2")
    await balancer.parts.tenants.add("t1", "school", "secret")
    assert await offered(desk, "servers:enable ") == ["s1", "s2"]
    assert await offered(desk, "servers:disable s1 ") == []
    assert await offered(desk, "servers:panic s1 ") == ["false", "true"]
    assert await offered(desk, "servers:panic --yes ") == ["s1", "s2"]
    assert await offered(desk, "why ") == ["'a room'", "room-1", "room-2"]
    assert await offered(desk, "meetings:end roo") == ["room-1", "room-2"]
    assert await offered(desk, "tenants:remove ") == ["t1"]


@pytest_twisted.ensureDeferred
async def test_every_id_of_a_list_is_completed_and_none_is_offered_twice(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "room-1", "room-2", "group:room-3", server_id="s1")
    await balancer.add_server("s2")
    assert await offered(desk, "servers:enable s1 ") == ["s2"]
    assert await offered(desk, "servers:cordon s2 s") == ["s1"]
    assert await offered(desk, "servers:enable s1 s2 ") == []
    assert await offered(desk, "servers:meeting_list s1:") == ["s1:s2"]
    assert await offered(desk, "meetings:end room-1 roo") == ["room-2"]
    assert await offered(desk, "meetings:end room-1:roo") == ["room-1:room-2"]
    assert await offered(desk, "meetings:end room-1 room-1") == ["room-1"]
    assert await offered(desk, "meetings:end group:r") == ["group:room-1", "group:room-2", "group:room-3"]


@pytest_twisted.ensureDeferred
async def test_ids_that_would_move_the_cursor_are_not_offered(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("evil\x1b[2J", "https://a.example.com/bigbluebutton/api", "secret")
    assert await offered(desk, "servers:enable ") == []


@pytest_twisted.ensureDeferred
async def test_of_very_many_meetings_some_are_offered(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, *(f"room-{i:03}" for i in range(MOST + 20)))
    assert len(await offered(desk, "why room-")) == MOST
    assert await offered(desk, "why room-517") == ["room-517"]


def test_a_store_that_does_not_answer_is_not_waited_for_long() -> None:
    class Silent:
        clock = Clock()

        @property
        def servers(self) -> Silent:
            return self

        async def all(self) -> list[str]:
            await Deferred()
            return []

    found: list[object] = []
    work = Deferred.fromCoroutine(Completer(TABLE, Silent())("servers:enable "))  # type: ignore[arg-type]
    work.addCallback(lambda completion: found.extend(completion.words))
    Silent.clock.advance(PATIENCE)
    assert work.called
    assert found == []


# Viewers


def test_viewers_have_the_commands_that_change_nothing_and_show_no_secrets() -> None:
    names = set(permitted(TABLE, Role.VIEWER))
    assert {"status", "servers", "ssh:fingerprint"} <= names
    assert not any(Call(TABLE[name]).changes or TABLE[name].shows_secrets for name in names)
    assert permitted(TABLE, Role.ADMIN) is TABLE


def test_a_row_that_says_nothing_of_it_is_not_for_viewers() -> None:
    with pytest.raises(Failed, match="not for viewers"):
        for_role([Call(ROWS["other"])], Role.VIEWER)
    reads = attrs.evolve(ROWS["other"], changes=False)
    assert for_role([Call(reads, rake=True)], Role.VIEWER) == [Call(reads)]
    for refused in (
        Call(attrs.evolve(reads, shows_secrets=True)),
        Call(reads, flags=frozenset({SHOW_SECRETS.name})),
    ):
        with pytest.raises(Failed, match="not for viewers"):
            for_role([Call(reads), refused], Role.VIEWER)
    assert for_role([Call(ROWS["other"], rake=True)], Role.ADMIN) == [Call(ROWS["other"], rake=True)]


# What `watch` prints is what `status` prints, without end.
@pytest.mark.parametrize("name", sorted(set(permitted(TABLE, Role.VIEWER)) - {"watch"}))
@pytest_twisted.ensureDeferred
async def test_no_command_of_viewers_shows_a_secret(name: str, balancer: Balancer, desk: Desk) -> None:
    """Every row that is open to viewers, with each of its flags, on a pool full of secrets."""
    parts = balancer.parts
    await parts.servers.add("s1", "https://a.example.com/bigbluebutton/api", "secret-of-a-server")
    await parts.tenants.add("t1", "school", "secret-of-a-tenant:secret-of-another")
    await parts.tenants.update("t1", {"lrs_basic_token": "secret-of-lrs", "kc_client_secret": "secret-of-kc"})
    desk = attrs.evolve(
        desk,
        settings=attrs.evolve(
            desk.settings, loadbalancer_secrets=(b"secret-of-front-ends",), secret_key_base="secret-of-signing"
        ),
    )
    command = TABLE[name]
    words = [
        {"id": "t1" if name.startswith("tenant") else "s1"}.get(argument.name, "1") for argument in command.arguments
    ]
    flags = [flag for flag in command.flags if flag != SHOW_SECRETS]
    for more in ([], *([f"--{flag.name}"] for flag in flags)):
        result = await desk.run(name, *words, *more, terminal=False)
        assert "secret-of" not in result.out + result.err
