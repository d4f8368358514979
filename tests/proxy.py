"""A TCP proxy that cuts its connections, as a network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def cutting_proxy(target: tuple[str, int], after_bytes: int) -> Iterator[int]:
    """Give the port of a proxy that cuts every connection once the target has sent so many bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, target, after_bytes), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _serve(server: socket.socket, target: tuple[str, int], after_bytes: int) -> None:
    with suppress(OSError):
        while True:
            near = server.accept()[0]
            threading.Thread(target=_relay, args=(near, target, after_bytes), daemon=True).start()


def _relay(near: socket.socket, target: tuple[str, int], n_left: int) -> None:
    with near, socket.create_connection(target) as far:
        up = threading.Thread(target=_upwards, args=(near, far), daemon=True)
        up.start()
        with suppress(OSError):
            while n_left > 0 and (data := far.recv(4096)):
                near.sendall(data[:n_left])
                n_left -= len(data)
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        up.join()


def _upwards(near: socket.socket, far: socket.socket) -> None:
    with suppress(OSError):
        while data := near.recv(4096):
            far.sendall(data)
