"""Sockets that clients connect to: bound before anything else happens, served by this process or by its workers."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from typing import Any, Final

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure

from scalelite.settings import Listen

BACKLOG: Final = 1024
_NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class CannotBind(Exception):
    """An address of `BIND` cannot be listened on; says which and why."""

    def __init__(self, listen: Listen, reason: str) -> None:
        super().__init__(f"cannot listen on {listen.url} (set by BIND or PORT): {reason}")


class Listening:
    """Bound, listening, non-blocking sockets; `urls` tell where, with the ports that were picked."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self.sockets: list[socket.socket] = list(sockets)
        for listening in self.sockets:
            # One that was inherited must be told so, or its copies would block, for all processes.
            listening.setblocking(False)
        self.urls = [_url(listening) for listening in self.sockets]
        self._files: list[tuple[str, tuple[int, int]]] = []

    def own_files(self) -> None:
        """Remember the files of UNIX sockets, to be removed by `remove_files`."""
        paths = [listening.getsockname() for listening in self.sockets if listening.family == socket.AF_UNIX]
        self._files = [(path, _identity(path)) for path in paths]

    def close(self) -> None:
        """Close the sockets here; they stay open in processes that have inherited them."""
        for listening in self.sockets:
            listening.close()

    def remove_files(self) -> None:
        """Remove the files of UNIX sockets, unless another process has put its own in their place."""
        for path, identity in self._files:
            try:
                if _identity(path) == identity:
                    os.unlink(path)
            except FileNotFoundError:
                continue
        self._files = []


def _identity(path: str) -> tuple[int, int]:
    # The number of an inode alone is soon used again.
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns


def bind(listens: Sequence[Listen]) -> Listening:
    """Bind every address, or none. Raises CannotBind."""
    sockets: list[socket.socket] = []
    for listen in listens:
        try:
            sockets += _bind_unix(listen) if listen.kind == "unix" else _bind_tcp(listen, listens)
        except OSError as error:
            for bound in sockets:
                bound.close()
            raise CannotBind(listen, _in_words(error)) from error
    listening = Listening(sockets)
    listening.own_files()
    return listening


def _in_words(error: OSError) -> str:
    # socket.create_server repeats the address; getaddrinfo has numbers of its own.
    number = error.errno or 0
    return (os.strerror(number) if number > 0 else error.strerror or str(error)).lower()


def _bind_tcp(listen: Listen, listens: Sequence[Listen]) -> list[socket.socket]:
    """A socket for each address that the host stands for: `localhost` may be two."""
    found = socket.getaddrinfo(
        listen.host or "0.0.0.0",  # noqa: S104 - Puma's default
        listen.port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )
    port = listen.port
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in dict.fromkeys((family, address[:2]) for family, _, _, _, address in found):
        try:
            made = _listen(family, str(address[0]), port, both=_both(listen, listens))
        except OSError as error:
            if error.errno in _NO_SUCH_ADDRESS:
                absent = error
                continue
            for other in sockets:
                other.close()
            raise
        sockets.append(made)
        # A port that was picked for the first address is the port of all.
        port = made.getsockname()[1]
    if absent is not None and not sockets:
        raise absent
    return sockets


def _listen(family: int, host: str, port: int, *, both: bool) -> socket.socket:
    return socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both and family == socket.AF_INET6
    )


def _both(listen: Listen, listens: Sequence[Listen]) -> bool:
    """Whether `[::]` takes IPv4 as well: as usual on Linux, unless another address wants that port."""
    if listen.host != "::" or not socket.has_dualstack_ipv6():
        return False
    return not any(
        other.kind == "tcp" and ":" not in other.host and other.port == listen.port and other.port for other in listens
    )


def _bind_unix(listen: Listen) -> list[socket.socket]:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _stale(listen.path):
            os.unlink(listen.path)
        before = os.umask(0o117 if listen.umask is None else listen.umask)
        try:
            listening.bind(listen.path)
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return [listening]


def _stale(path: str) -> bool:
    """Whether a socket file is left over from a process that is gone."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(1)
            trial.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _url(listening: socket.socket) -> str:
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return Listen("unix", path=name).url
    return Listen("tcp", host=name[0], port=name[1]).url


def serve(reactor: Any, listening: socket.socket, factory: IProtocolFactory) -> tcp.Port:
    """Accept connections on a socket of `Listening`, which is left open."""
    if listening.family == socket.AF_UNIX:
        port = _UnixPort(listening, factory, reactor)
        port.startListening()
        return port
    adopted: tcp.Port = reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
    return adopted


class _UnixPort(unix.Port):
    """A port on a UNIX socket that others share: Twisted's own sets the file's mode, and removes it at the end."""

    # A shutdown would end the socket for the other processes too.
    _shouldShutdown = False

    def __init__(self, listening: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        super().__init__(listening.getsockname().encode(), factory, reactor=reactor)
        self.socket = listening.dup()

    def startListening(self) -> None:
        assert self.factory is not None
        self.factory.doStart()
        self.connected = True
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)
