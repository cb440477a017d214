"""What a command is: its name, arguments, flags, help, and the coroutine that does it. The one table is `commands`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from scalelite.admin.console import Console, Failed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from scalelite.bbb.client import BBBClient
    from scalelite.recordings.desk import RecordingDesk
    from scalelite.settings import Settings
    from scalelite.store.audit import AuditStore
    from scalelite.store.inspection import InspectionStore
    from scalelite.store.leases import LeaseStore
    from scalelite.store.meetings import MeetingStore
    from scalelite.store.servers import ServerStore
    from scalelite.store.tenants import TenantStore

__all__ = [
    "FAILED",
    "JSON",
    "MISUSED",
    "OK",
    "SHOW_SECRETS",
    "YES",
    "Actor",
    "Argument",
    "Call",
    "Command",
    "Context",
    "Failed",
    "Flag",
    "Option",
    "Pool",
]

OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2


@attrs.frozen
class Argument:
    """A positional argument. `read` makes its value of the text, and raises ValueError with the right form in words.

    `keeps_empty`: an empty text is a value, not the same as none. `skippable`: `-` stands for none. `many`: takes all
    words that are left, and its value is the tuple of theirs; only the last argument may. `public`: no secret, so that
    the audit log shows it.
    """

    name: str
    help: str
    required: bool = True
    read: Callable[[str], Any] = str
    keeps_empty: bool = False
    skippable: bool = False
    many: bool = False
    public: bool = False


@attrs.frozen
class Flag:
    """An option without a value; `aliases` are further names of it. Names are without the dashes."""

    name: str
    help: str
    aliases: tuple[str, ...] = ()


@attrs.frozen
class Option:
    """An option with a value, which is never a secret: `--name VALUE`, in rake's spelling `--name=VALUE`.

    `read` as an argument's; `choices` are values to propose.
    """

    name: str
    help: str
    read: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()


SHOW_SECRETS: Final = Flag("show-secrets", "Show secrets in clear.")
JSON: Final = Flag("json", "Print JSON.")
YES: Final = Flag("yes", "Do it without asking.", aliases=("force",))


@attrs.frozen
class Command:
    """A row of the table.

    `missing` is what to say, with status 1, where a required argument is absent; without it, that is a misuse.
    `destructive`: it may end meetings, or lose what cannot be had again. `needs_pool`: it uses the stores or the
    servers. `needs_settings`: it can't do without settings that are in order. `changes`: it may change something, so it
    is not for those who may only read. `shows_secrets`: it prints secrets without being asked for them, so it is not
    for those either. `changes_with`: without that flag, it changes nothing after all.
    """

    name: str
    run: Callable[[Context, Call], Coroutine[Any, Any, int]]
    help: str
    example: str
    arguments: tuple[Argument, ...] = ()
    flags: tuple[Flag, ...] = ()
    missing: str | None = None
    destructive: bool = False
    needs_pool: bool = True
    needs_settings: bool = True
    changes: bool = True
    shows_secrets: bool = False
    changes_with: Flag | None = None
    options: tuple[Option, ...] = ()


@attrs.frozen
class Call:
    """One command with what it was given. `rake`: in rake's spelling, so its output is parsed by old scripts."""

    command: Command
    arguments: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    flags: frozenset[str] = frozenset()
    rake: bool = False
    options: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        flag = self.command.changes_with
        return self.command.changes and (flag is None or self.has(flag))

    def get(self, name: str) -> Any:
        """An argument's value; None if it was not given."""
        return self.arguments.get(name)

    def has(self, flag: Flag) -> bool:
        """Whether a flag was given."""
        return flag.name in self.flags

    def value(self, option: Option) -> Any:
        """An option's value; None if it was not given."""
        return self.options.get(option.name)


class Pool(Protocol):
    """The stores and the servers, each made when it is first asked for."""

    @property
    def clock(self) -> IReactorTime: ...
    @property
    def servers(self) -> ServerStore: ...
    @property
    def meetings(self) -> MeetingStore: ...
    @property
    def tenants(self) -> TenantStore: ...
    @property
    def client(self) -> BBBClient: ...
    @property
    def audit(self) -> AuditStore: ...
    @property
    def inspection(self) -> InspectionStore: ...
    @property
    def leases(self) -> LeaseStore: ...
    @property
    def recordings(self) -> RecordingDesk:
        """Raises Failed where there is no database."""


@attrs.frozen
class Actor:
    """Who gives a command, and from where."""

    name: str
    origin: str


@attrs.frozen
class Context:
    """What a command works with. `new_id` makes an id for a new record.

    `deadline`: seconds that a command may wait for BBB servers, all its calls together. `own_process`: it runs in a
    process of the operator's own, so that files are the operator's to read and signals the operator's to send.
    """

    settings: Settings
    pool: Pool
    console: Console
    actor: Actor
    new_id: Callable[[], str]
    deadline: float = 15.0
    own_process: bool = False
