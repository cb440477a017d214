"""The channels of a logged-in client: sessions with a command or a shell, and nothing else."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import EXTENDED_DATA_STDERR, OPEN_ADMINISTRATIVELY_PROHIBITED, SSHConnection
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from scalelite.admin.ssh.transport import Transport

#: Channels of one connection, as in OpenSSH's MaxSessions.
MAX_CHANNELS: Final = 10
#: Bytes of output that may wait for a client that does not read.
MAX_WAITING: Final = 32 * 1024 * 1024
#: Bytes that a client may send ahead, and how many of them may be unused when it is told to send more: at least the
#: longest line, which is only used as a whole.
WINDOW: Final = 256 * 1024
ENOUGH: Final = 128 * 1024
_SMALLEST_PACKET: Final = 256
_PIECE: Final = 32 * 1024
_OPEN_FAILURE: Final = 92


#: What Conch tells must not come under the names of our classes, which would give its news the weight of ours.
CONCHS_LOG: Final = Logger(namespace="twisted.conch")


@attrs.frozen
class Size:
    """A terminal's, in characters."""

    width: int = 80
    height: int = 24

    @classmethod
    def of(cls, width: int, height: int) -> Size:
        """What a client says, within reason; 0 stands for unknown."""
        return cls(min(max(width, 10), 1000) if width else 80, min(max(height, 2), 1000) if height else 24)


class Session(Protocol):
    """What runs on a channel, and is told what happens there."""

    @property
    def idle(self) -> bool:
        """Whether it waits for the operator, or for nothing at all."""

    def received(self, data: bytes) -> None:
        """Input."""

    def input_ended(self) -> None:
        """There is no more input."""

    def resized(self, size: Size) -> None:
        """The terminal has another size now."""

    def interrupted(self) -> None:
        """The client has sent a signal."""

    def hung_up(self) -> None:
        """The channel is closed."""


class Connection(SSHConnection):
    """The service `ssh-connection` (RFC 4254), without forwarding, agent or subsystems."""

    transport: Transport

    def __init__(self) -> None:
        super().__init__()
        self._log = CONCHS_LOG

    def serviceStarted(self) -> None:
        pass

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        kind, rest = getNS(packet)
        sender, _window, largest = struct.unpack(">3L", rest[:12])
        if kind == b"session" and len(self.channels) < MAX_CHANNELS and largest >= _SMALLEST_PACKET:
            super().ssh_CHANNEL_OPEN(packet)
            return
        reason = b"too many channels" if kind == b"session" else b"only commands and shells are served here"
        self.transport.sendPacket(
            _OPEN_FAILURE, struct.pack(">2L", sender, OPEN_ADMINISTRATIVELY_PROHIBITED) + NS(reason) + NS(b"")
        )

    def getChannel(self, channelType: bytes, windowSize: int, maxPacket: int, data: bytes) -> SessionChannel:
        return SessionChannel(
            remoteWindow=windowSize, remoteMaxPacket=min(maxPacket, _PIECE), conn=self, localWindow=WINDOW
        )

    def gotGlobalRequest(self, requestType: bytes, data: bytes) -> int:
        return 0

    def adjustWindow(self, channel: SessionChannel, bytesToAdd: int) -> None:
        if channel.unread <= ENOUGH:
            super().adjustWindow(channel, bytesToAdd)

    def sessions(self) -> list[Session]:
        """What runs on this connection."""
        return [channel.session for channel in self.channels.values() if channel.session is not None]

    def flush(self) -> None:
        """Send what has waited for the socket."""
        for channel in list(self.channels.values()):
            channel.flush()


class SessionChannel(SSHChannel):
    """A session channel: what its session writes goes out as fast as the client takes it, and no faster."""

    name = b"session"
    conn: Connection

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._log = CONCHS_LOG
        self.session: Session | None = None
        #: The terminal's size if the client has asked for a terminal.
        self.size: Size | None = None
        #: Bytes that the session has received and not used yet.
        self.unread = 0
        self._requested = False
        # What came before there was a session, and whether that was all.
        self._early = b""
        self._early_end = False
        self._waiting: deque[tuple[bool, bytes]] = deque()
        self._waiting_size = 0
        self._later: IDelayedCall | None = None
        self._status: int | None = None
        self._last_words = False

    @property
    def transport(self) -> Transport:
        return self.conn.transport

    # From the client

    def channelOpen(self, specificData: bytes) -> None:
        self._touch()

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        self._touch()
        try:
            return self._request(requestType, data)
        except (struct.error, UnicodeDecodeError, IndexError):
            return False

    def _request(self, kind: bytes, data: bytes) -> bool:
        if kind == b"pty-req" and not self._requested:
            _term, rest = getNS(data)
            self.size = Size.of(*struct.unpack(">2L", rest[:8]))
        elif kind == b"window-change" and self.size is not None:
            self.size = Size.of(*struct.unpack(">2L", data[:8]))
            if self.session is not None:
                self.session.resized(self.size)
        elif kind in {b"shell", b"exec"} and not self._requested:
            self._requested = True
            command = getNS(data)[0].decode() if kind == b"exec" else None
            # Later, so that the answer to this request is the first thing that the client hears.
            self.transport.gate.clock.callLater(0, self._start, command)
        elif kind in {b"signal", b"break"} and self.session is not None:
            self.transport.gate.clock.callLater(0, self.session.interrupted)
        else:
            return False
        return True

    def _start(self, command: str | None) -> None:
        if not self.localClosed:
            session = self.session = self.transport.gate.open_session(self, command)
            if self._early:
                session.received(self._early)
            if self._early_end:
                session.input_ended()

    def dataReceived(self, data: bytes) -> None:
        self._touch()
        self.unread += len(data)
        if self.session is None:
            self._early += data
        else:
            self.session.received(data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        pass

    def eofReceived(self) -> None:
        if self.session is None:
            self._early_end = True
        else:
            self.session.input_ended()

    def closeReceived(self) -> None:
        self._waiting.clear()
        self._last_words = True
        self.buf, self.extBuf = b"", []
        super().loseConnection()

    def closed(self) -> None:
        self._waiting.clear()
        self._forget_flush()
        if self.session is not None:
            self.session.hung_up()
            self.session = None

    def addWindowBytes(self, data: int) -> None:
        self._touch()
        super().addWindowBytes(data)
        self.flush()

    def _touch(self) -> None:
        self.transport.active_at = self.transport.gate.clock.seconds()

    # To the client

    def used(self, count: int) -> None:
        """The session has used `count` bytes of its input, so the client may send more."""
        self.unread = max(0, self.unread - count)
        spent = self.localWindowSize - self.localWindowLeft
        if spent > self.localWindowSize // 2 and not self.localClosed:
            self.conn.adjustWindow(self, spent)

    def send(self, data: bytes, *, error: bool = False) -> None:
        """Write to the client's standard output or error."""
        if self.localClosed or self._status is not None:
            return
        self._waiting.append((error, data))
        self._waiting_size += len(data)
        if self._waiting_size > MAX_WAITING:
            self.transport.abort("it does not read what it asked for")
        elif self._waiting_size >= _PIECE:
            self.flush()
        elif self._later is None:
            # With the lines that may follow at once, it makes one packet.
            self._later = self.transport.gate.clock.callLater(0, self.flush)

    def flush(self) -> None:
        """Send what the client and the socket take now."""
        self._forget_flush()
        while self._waiting and not (self.buf or self.extBuf or self.transport.paused or self.localClosed):
            error, data = self._waiting.popleft()
            pieces = [data]
            size = len(data)
            while self._waiting and self._waiting[0][0] is error and size < _PIECE:
                pieces.append(self._waiting.popleft()[1])
                size += len(pieces[-1])
            self._waiting_size -= size
            joined = b"".join(pieces)
            if error:
                self.writeExtended(EXTENDED_DATA_STDERR, joined)
            else:
                self.write(joined)
        self._end_if_done()

    def _forget_flush(self) -> None:
        later, self._later = self._later, None
        if later is not None and later.active():
            later.cancel()

    def exit(self, status: int) -> None:
        """Close the channel, once everything is written, with this exit status."""
        if self._status is None:
            self._status = status
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self._status is None or self._last_words or self._waiting or self.buf or self.extBuf or self.localClosed:
            return
        self._last_words = True
        self.conn.sendRequest(self, b"exit-status", struct.pack(">L", self._status & 0xFF))
        self.conn.sendEOF(self)
        self.loseConnection()
