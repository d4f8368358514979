"""Run the application: addresses that are safe, and a stop that answers what was asked."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn

from nightfit.errors import ConfigError
from nightfit.serving.app import App
from nightfit.serving.connection import Connection
from nightfit.serving.following import Follower
from nightfit.serving.http import Limits
from nightfit.serving.telemetry import Metrics, log
from nightfit.serving.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightfit.learners.base import LearnerConfig
    from nightfit.schema import Rules
    from nightfit.store import Lineage

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

STOP_S = 5
"""Seconds in which requests under way may end after a stop is asked for."""


@dataclass(frozen=True)
class Options:
    """How a server is reached. `allow_hosts` are further names by which it may be called."""

    host: str = "127.0.0.1"
    port: int = 8000
    tokens: Tokens = field(default_factory=Tokens)
    allow_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    logs_requests: bool = False

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names that a Host header may hold; on other addresses than loopback a token guards instead."""
        if self.host not in LOOPBACK and not self.allow_hosts:
            return None
        return frozenset({"127.0.0.1", "localhost", "[::1]", *(name.lower() for name in self.allow_hosts)})


class _Server(uvicorn.Server):
    """uvicorn's server, stopped by SIGTERM and SIGINT as a success: what was asked is answered first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            log("serving", url=f"http://{self.config.host}:{port}")


def serve(
    lineages: Mapping[str, Lineage], rules: Rules, options: Options, learners: Mapping[str, LearnerConfig]
) -> None:
    """Serve the newest good versions of these lineages until a signal says stop.

    `learners`: what the config says of each model: the only code that a version may need is what it names there.
    Raises `ConfigError` for an address beyond this machine without a token, and for one that cannot be had.
    """
    if options.host not in LOOPBACK and not options.tokens:
        raise ConfigError(
            f"an address that others can reach needs a token, however {options.host} has none; `nightfit token` makes "
            "one, --tokens names the file with its digest"
        )
    metrics = Metrics()
    app = App(
        Follower(lineages, rules, metrics, learners),
        metrics,
        options.tokens,
        options.hosts,
        options.limits,
        options.logs_requests,
    )
    # The keep-alive of `Connection` is the one that counts: uvicorn's ends for good with a byte that begins no request.
    config = uvicorn.Config(
        app, host=options.host, port=options.port, http=Connection, ws="none", loop="uvloop", lifespan="on",
        log_level="critical", access_log=False, server_header=False, date_header=False, proxy_headers=False,
        timeout_keep_alive=3600, timeout_graceful_shutdown=STOP_S,
    )  # fmt: skip
    server = _Server(config)
    with suppress(SystemExit):  # uvicorn's, where it cannot listen
        server.run()
    if not server.started:
        raise ConfigError(
            f"the server must be able to listen on {options.host}:{options.port}, however it is taken or not ours; "
            "choose another with --host and --port"
        )
    log("stopped")
