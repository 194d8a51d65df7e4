"""`tspo-trl serve`: run a retriever as an HTTP server that speaks Search-R1's protocol."""

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search.arguments import TOKEN_VARIABLE, open_retriever
from ..search.serving.hosts import check_allowed_hosts, host_name
from ..search.serving.wire import check_token
from .arguments import add_retriever_arguments, retriever_arguments

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

_BACKLOG = 4096  # connections that wait in the system until they are accepted
_KEEP_ALIVE = 75  # seconds; longer than most pauses between two training steps
_REQUEST_TIMEOUT = 90  # seconds in which the head of a request must come, pause included
_STOP_TIMEOUT = 30  # seconds
_OPEN_FILES = 65536  # one for each connection
_COUNTS = ("--top-k", "--max-queries", "--max-query-length", "--max-body-size", "--max-top-k")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "serve",
        help="serve an index over HTTP",
        description="Answer Search-R1's POST /retrieve, and GET /healthz, /stats and /metrics. "
        f"If --token-file or the environment variable {TOKEN_VARIABLE} sets a token, requests must send it.",
    )
    add_retriever_arguments(parser)
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    _add_number(group, "--port", 8000, "port to listen on; 0 takes a free one")
    _add_number(group, "--top-k", 3, "passages per query if the request does not say")
    group.add_argument("--token-file", metavar="FILE", help="file with the bearer token")
    group.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="host name in the URLs of clients; may be repeated; *.example.com and * match several "
        "(default: this machine only on a loopback address, otherwise all)",
    )
    group = parser.add_argument_group("limits of a request")
    _add_number(group, "--max-queries", 4096, "maximum number of queries")
    _add_number(group, "--max-query-length", 16384, "maximum number of characters of a query")
    _add_number(group, "--max-body-size", 16 * 2**20, "maximum number of bytes of the body")
    _add_number(group, "--max-top-k", 100, "maximum number of passages per query")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Serve until SIGTERM or Ctrl-C, answer the requests that were accepted, then return.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Raises:
        `OSError`: if the server cannot listen on the address.
        `ValueError`: if an argument is out of range or no client can send the token, and as the retriever raises.
    """
    from ..search.serving.server import RequestLimits, create_app

    _check_numbers(args)
    limits = RequestLimits(args.max_queries, args.max_query_length, args.max_body_size, args.max_top_k)
    token = _token(args.token_file)
    allowed_hosts = check_allowed_hosts(args.allowed_host or [], "--allowed-host")
    with _bind(args.host, args.port) as listener:
        _warn_if_open(listener, token)
        app = create_app(
            open_retriever(retriever_arguments(args)),
            default_top_k=args.top_k,
            limits=limits,
            token=token,
            allowed_hosts=_allowed_hosts(listener, args.host, allowed_hosts),
        )
        serve(app, listener)


def serve(app: "FastAPI", listener: socket.socket, *, stop_timeout: int = _STOP_TIMEOUT) -> None:
    """
    Serve an application until SIGTERM or Ctrl-C. Print the URL once the server listens.

    Args:
        app (`FastAPI`):
            The return value of [`~tspo_trl.search.serving.server.create_app`].
        listener (`socket.socket`):
            Socket bound to the address.
        stop_timeout (`int`, *optional*, defaults to `30`):
            Number of seconds after the signal in which requests are answered and the running search must end.
    """
    import uvicorn

    class Server(uvicorn.Server):
        def __init__(self, config: uvicorn.Config):
            super().__init__(config)
            self.idle: dict[Any, tuple[Any, float]] = {}  # connections without a request, and since when

        async def on_tick(self, counter: int) -> bool:
            # uvicorn has no time limit for a connection that never sends the whole head of a request.
            if counter % 10 == 0:
                self.idle = _close_idle(self.server_state.connections, self.idle, time.monotonic())
            return await super().on_tick(counter)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"Listening on {_url(listener)}", flush=True)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(super().shutdown(sockets), stop_timeout)

    _raise_file_limit()
    # Otherwise the second packet of an answer waits 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
    )
    # uvicorn stops on either signal, then raises it again for the previous handler.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])
    if app.state.searcher.busy:
        logger.error("The running search did not end within %d s. It is abandoned.", stop_timeout)
        os._exit(1)  # a hanging thread would keep the process alive


def _add_number(group: Any, flag: str, default: int, text: str) -> None:
    group.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")


def _check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers out of range before anything is loaded, and name the option as the user typed it."""
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port is {args.port}. Choose a port from 0 to 65535.")
    for flag in _COUNTS:
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if value < 1:
            raise ValueError(f"{flag} is {value}. It must be at least 1.")
    if args.top_k > args.max_top_k:
        raise ValueError(f"--top-k is {args.top_k}. It must be at most --max-top-k, {args.max_top_k}.")


def _token(path: str | None) -> str | None:
    if path is None:
        source, token = f"the environment variable {TOKEN_VARIABLE}", os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            return None
    else:
        source, token = f"--token-file {path}", Path(path).read_text(encoding="utf-8", errors="replace")
    token = token.strip()
    check_token(token, source)
    return token


def _bind(host: str, port: int) -> socket.socket:
    """
    Bind the address before anything is loaded, so that a port in use is reported at once.

    The server listens only once its index is loaded. Until then clients are refused and go to another replica. So if
    two servers load at the same time, the second reports the port in use only after loading.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error}. Choose another --host or --port.") from error
    return listener


def _allowed_hosts(listener: socket.socket, host: str, allowed_hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Without `--allowed-host`, only a server on loopback refuses names: clients in a cluster use many."""
    if not allowed_hosts and not _is_loopback(listener):
        return ("*",)
    name = host_name(host)
    return (*allowed_hosts, name) if name else allowed_hosts


def _close_idle(connections: Any, idle: dict[Any, tuple[Any, float]], now: float) -> dict[Any, tuple[Any, float]]:
    """Close uvicorn's connections that have had no request for too long. Return those that still wait."""
    waiting = {}
    for connection in list(connections):
        last = connection.cycle  # the last request; `None` before the first
        if last is not None and not last.response_complete:
            continue
        before, since = idle.get(connection, (last, now))
        if before is not last:
            since = now
        if now - since > _REQUEST_TIMEOUT:
            connection.transport.abort()
        else:
            waiting[connection] = (last, since)
    return waiting


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def _warn_if_open(listener: socket.socket, token: str | None) -> None:
    if token is None and not _is_loopback(listener):
        print(
            f"warning: everyone who can reach {_url(listener)} can search. Set a token with --token-file or the "
            f"environment variable {TOKEN_VARIABLE}.",
            file=sys.stderr,
        )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _raise_file_limit() -> None:
    """Raise the soft limit of open files, which is usually 1,024 or less: each connection is an open file."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:
        logger.warning("The limit of open files stays at %d, which also limits the connections: %s", soft, error)
