"""A TCP proxy on loopback that breaks connections off after so many bytes of the client's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Passes on to `target`, a port. The first connections are reset after so many bytes each, the others are kept."""

    def __init__(self, target: int, budgets: Sequence[int]) -> None:
        self._target = target
        self._budgets = list(budgets)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.cut = 0

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone would not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self._target))
                budget = self._budgets.pop(0) if self._budgets else None
                self._start(self._forward, client, server, budget)
                self._start(self._back, server, client)

    def _forward(self, client: socket.socket, server: socket.socket, budget: int | None) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if budget is not None:
                    data, budget = data[:budget], budget - len(data)
                server.sendall(data)
                if budget is not None and budget <= 0:
                    self.cut += 1
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        # The other thread still waits for it.
                        with suppress(OSError):
                            end.shutdown(socket.SHUT_RD)
                        end.close()
                    return
            server.shutdown(socket.SHUT_WR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        for end in (server, client):
            end.close()
