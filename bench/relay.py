"""A relay in front of Redis that counts the commands and the round trips that pass through it."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Self

import hiredis

from bench.processes import Redis


class Relay:
    """Listens on a UNIX socket at `url`; a round trip begins where a client speaks after Redis has spoken."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._folder = Path(tempfile.mkdtemp(prefix="bench-relay-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / "redis.sock"))
        self._listener.listen()
        self._lock = threading.Lock()
        self.commands = 0
        self.trips = 0

    @property
    def url(self) -> str:
        """What REDIS_URL must be."""
        return f"unix://{self._folder / 'redis.sock'}"

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self.commands = self.trips = 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._redis.url.removeprefix("unix://"))
            link = _Link(self, client, server)
            for work in (link.upward, link.downward):
                threading.Thread(target=work, daemon=True).start()

    def count(self, commands: int, *, trip: bool) -> None:
        """So much more has passed."""
        with self._lock:
            self.commands += commands
            self.trips += trip

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A plain close would leave the thread in its accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Link:
    """One client's connection."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._client = client
        self._server = server
        self._answered = True

    def upward(self) -> None:
        # Commands have the form of replies: lists of strings.
        reader = hiredis.Reader()
        while data := _received(self._client):
            reader.feed(data)
            commands = 0
            while reader.gets() is not False:
                commands += 1
            self._relay.count(commands, trip=self._answered)
            self._answered = False
            self._server.sendall(data)
        self._server.close()

    def downward(self) -> None:
        while data := _received(self._server):
            self._answered = True
            self._client.sendall(data)
        self._client.close()


def _received(link: socket.socket) -> bytes:
    try:
        return link.recv(1 << 18)
    except OSError:
        # Its other half was closed meanwhile.
        return b""
