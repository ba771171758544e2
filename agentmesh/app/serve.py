"""`agentmesh serve`: the simulated provider, or recorded replies, over HTTP, under strict limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ..marked_yaml import did_you_mean
from ..rates import Limit, impractical, limit_names, parse_limit_name

if TYPE_CHECKING:
    from ..catalog import ProviderFile
    from ..simulate.behaviour import Served
    from ..simulate.provider import ASGIApp, Receive, Scope, Send, SimulatedProvider

__all__ = ["app", "serve_provider"]

app = typer.Typer(no_args_is_help=True, help="Serve the simulated provider, or recorded replies, over HTTP.")

_BACKLOG = 2048  # connections that may arrive at once: a lane opens hundreds in its first second
_KEEP_ALIVE_S = 300  # a pooled connection must not be closed just as its client sends
_GOODBYE_S = 1  # for replies under way when the server is told to stop

PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")]
HostOption = Annotated[str, typer.Option(help="Address to listen on; the default can be reached from here only.")]
RateOption = Annotated[
    list[str] | None,
    typer.Option("--rate", metavar="NAME=N", help="A limit of the whole server: requests_per_minute=600. Repeatable."),
]
LatencyOption = Annotated[
    str | None, typer.Option(metavar="S|MIN:MAX", help="Seconds until a reply, or drawn evenly between two.")
]
FailOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Share of requests that fail: 500, 503 or a dropped connection, in turn."),
]
SeedOption = Annotated[int, typer.Option(help="Another seed draws all replies, latencies and failures anew.")]


@app.command("sim", epilog="Example: agentmesh serve sim --port 8080")
def serve_sim(
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    provider_file: Annotated[
        Path | None, typer.Option(help="Simulate the provider that this file describes, under its limits.")
    ] = None,
    rate: RateOption = None,
    latency: LatencyOption = None,
    fail: FailOption = None,
    seed: SeedOption = 0,
) -> None:
    """Serve the simulated provider. Prints one JSON line with its base_url when it accepts connections."""
    from ..simulate.behaviour import served_by
    from ..simulate.provider import SimulatedProvider

    served = served_by(_provider_file(provider_file).spec, seed=seed)
    provider = SimulatedProvider(_changed(served, rate=rate, latency=latency, fail=fail))
    serve_provider(provider, host=host, port=port)


@app.command("replay", epilog="Example: agentmesh serve replay answers.jsonl.gz --rate requests_per_minute=600")
def serve_replay(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSONL, also gzipped, with rows of messages and reply.")
    ],
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    model: Annotated[str | None, typer.Option(help="The only model served; without it every name is answered.")] = None,
    rate: RateOption = None,
    latency: LatencyOption = None,
    fail: FailOption = None,
    seed: SeedOption = 0,
) -> None:
    """Serve recorded replies: an exact match of the messages is answered, anything else gets a 404."""
    from ..simulate.behaviour import Served, ServedModel
    from ..simulate.provider import SimulatedProvider
    from ..simulate.replay import RecordedReplies, load_recordings

    recordings = load_recordings(files)
    for notice in recordings.notices:
        typer.echo(notice, err=True)
    names = [model] if model is not None else [*recordings.models, "*"]
    served = Served({name: ServedModel(name) for name in names}, title="replay", seed=seed)
    served = _changed(served, rate=rate, latency=latency, fail=fail)
    serve_provider(SimulatedProvider(served, RecordedReplies(recordings)), host=host, port=port)


def _provider_file(path: Path | None) -> ProviderFile:
    from ..catalog import Catalog

    if path is None:
        return Catalog.load().provider("sim")
    named = [file for file in Catalog.load([path]).providers()[0] if file.origin == "--provider-file"]
    if len(named) != 1:
        raise UserError(f"--provider-file {path}: name one file that describes one provider, there are {len(named)}")
    return named[0]


def _changed(served: Served, *, rate: Sequence[str] | None, latency: str | None, fail: float | None) -> Served:
    from ..simulate.behaviour import mixed_failures

    return served.changed(
        latency_s=None if latency is None else _latency(latency),
        failures=None if fail is None else mixed_failures(fail),
        limits=tuple(_limit(text) for text in rate or ()),
    )


def _limit(text: str) -> Limit:
    name, _, number = text.partition("=")
    if name not in limit_names():
        hint = did_you_mean(name, limit_names())
        raise UserError(
            f"--rate {text}: {name!r} is no limit{f' ({hint})' if hint else ''}; write requests_per_minute=600"
        )
    unit, window = parse_limit_name(name)
    try:
        limit = Limit(unit, float(number), window)
    except ValueError:
        raise UserError(f"--rate {text}: the limit must be a number above 0") from None
    if reason := impractical(limit):
        raise UserError(f"--rate {text}: {name} {reason}")
    return limit


def _latency(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        span = float(low), float(high or low)
    except ValueError:
        span = (-1.0, -1.0)
    if not 0.0 <= span[0] <= span[1] < float("inf"):
        raise UserError(f"--latency {text}: write seconds, or two of them with a colon between: 0.5 or 0.2:1.5")
    return span


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises UserError if the port is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio knows TCP when it sees it and switches Nagle's algorithm off: 40 ms per reply.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        hint = "" if port == 0 else "; --port 0 picks a free one"
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror or error}{hint}") from None
    return listening


def serve_provider(provider: SimulatedProvider, *, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM; prints one JSON line when connections are accepted."""
    with _listen(host, port) as listening:
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        root = f"http://{shown}:{listening.getsockname()[1]}"
        models = [name for name in provider.served.models if name != "*"]
        line = json.dumps({"base_url": f"{root}/v1", "stats": f"{root}/stats", "models": models})

        def ready() -> None:
            provider.start()
            typer.echo(line)  # flushes

        asyncio.run(_uvicorn(_closing(provider), ready).serve(sockets=[listening]))


def _closing(provider: ASGIApp) -> ASGIApp:
    """The application with the means to end its connection at once: uvicorn's transport, behind its `send`."""
    from ..simulate.provider import HANG_UP, RESET

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        transport: Any = send.__self__.transport  # type: ignore[attr-defined]  # a method of the connection's cycle

        def reset() -> None:  # with no time to linger, the system says RST to the other side
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

        scope["extensions"] = {**scope.get("extensions", {}), HANG_UP: transport.abort, RESET: reset}
        await provider(scope, receive, _together(send, transport) if sys.platform == "linux" else send)

    return closing


def _together(send: Send, transport: Any) -> Send:
    """Have the headers wait for the first of the body, 0.2 s at most: a client wakes once for what is one packet."""

    async def together(message: Any) -> None:
        begins = message["type"] == "http.response.start"
        if begins and not transport.is_closing():
            cork(1)
        await send(message)
        if not begins and not transport.is_closing():
            cork(0)

    def cork(hold: int) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, hold)

    return together


def _uvicorn(application: ASGIApp, ready: Callable[[], None]) -> Any:
    """A server that says when it is ready, and for which being told to stop is no failure."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    config = uvicorn.Config(
        application,
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GOODBYE_S,
    )
    return Server(config)
