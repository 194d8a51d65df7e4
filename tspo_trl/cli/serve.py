"""`tspo-trl serve`: a retriever as an HTTP server that speaks Search-R1's protocol."""

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search.arguments import TOKEN_VARIABLE
from .retrievers import add_retriever_arguments, retriever_from

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

_BACKLOG = 4096  # connections that the system may hold until they are accepted
_KEEP_ALIVE = 75  # seconds; longer than most pauses between two training steps
_STOP_TIMEOUT = 30  # seconds
_OPEN_FILES = 65536  # one for each connection
_COUNTS = ("--top-k", "--max-queries", "--max-query-length", "--max-body-size", "--max-top-k")


def add_parser(subparsers: Any) -> None:
    """
    Describe the subcommand.

    Args:
        subparsers:
            What `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = subparsers.add_parser(
        "serve",
        help="serve an index over HTTP",
        description="Answer Search-R1's POST /retrieve, and GET /healthz, /stats and /metrics. "
        f"If the environment variable {TOKEN_VARIABLE} or --token-file gives a token, requests need it.",
    )
    add_retriever_arguments(parser)
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    _add_number(group, "--port", 8000, "port to listen on; 0 takes a free one")
    _add_number(group, "--top-k", 3, "passages for a query where a request does not say")
    group.add_argument("--token-file", metavar="FILE", help="file that holds the bearer token")
    group = parser.add_argument_group("limits of a request")
    _add_number(group, "--max-queries", 4096, "queries")
    _add_number(group, "--max-query-length", 16384, "characters of a query")
    _add_number(group, "--max-body-size", 16 * 2**20, "bytes of the body")
    _add_number(group, "--max-top-k", 100, "passages for a query")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Serve until SIGTERM or Ctrl-C, then answer what was accepted and return.

    Args:
        args (`argparse.Namespace`):
            As parsed.

    Raises:
        `OSError`: if the address cannot be listened on.
        `ValueError`: if an argument is out of range, the token cannot be sent, or as the retriever raises.
    """
    from ..search.serving.server import RequestLimits, create_app

    _check_numbers(args)
    limits = RequestLimits(args.max_queries, args.max_query_length, args.max_body_size, args.max_top_k)
    token = _token(args.token_file)
    with _bind(args.host, args.port) as listener:
        _warn_if_open(listener, token)
        app = create_app(retriever_from(args), default_top_k=args.top_k, limits=limits, token=token)
        serve(app, listener)


def serve(app: "FastAPI", listener: socket.socket, *, stop_timeout: int = _STOP_TIMEOUT) -> None:
    """
    Serve an application until SIGTERM or Ctrl-C. Prints its URL once it listens.

    Args:
        app (`FastAPI`):
            As [`~tspo_trl.search.serving.server.create_app`] made it.
        listener (`socket.socket`):
            Bound to the address.
        stop_timeout (`int`, *optional*, defaults to `30`):
            Seconds that requests have to be answered in after the signal, and the search that runs has to end in.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"Listening on {_url(listener)}", flush=True)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(super().shutdown(sockets), stop_timeout)

    _raise_file_limit()
    # Without it an answer's second packet waits 40 ms for the client's acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
    )
    # uvicorn stops on either signal and then raises it again for whoever handled it before.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])
    if app.state.searcher.busy:
        logger.error("The search that runs did not end within %d s, it is abandoned.", stop_timeout)
        os._exit(1)  # a thread that hangs would keep the process


def _add_number(group: Any, flag: str, default: int, text: str) -> None:
    group.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")


def _check_numbers(args: argparse.Namespace) -> None:
    """Refuse what is out of range before anything is loaded, under the name that the user typed."""
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port is {args.port}: it has to be from 0 to 65535.")
    for flag in _COUNTS:
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if value < 1:
            raise ValueError(f"{flag} is {value}: it has to be at least 1.")
    if args.top_k > args.max_top_k:
        raise ValueError(f"--top-k is {args.top_k}: it may be at most --max-top-k, {args.max_top_k}.")


def _token(path: str | None) -> str | None:
    from ..search.serving.server import check_token

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
    Take the address before anything is loaded, so that a port on which another server listens is found out at once.

    Of two servers that load at the same time the second finds out when it is ready: it does not listen before, so that
    clients are refused and go to another replica instead of waiting for an index that loads.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error}. Choose another --host or --port.") from error
    return listener


def _warn_if_open(listener: socket.socket, token: str | None) -> None:
    host = listener.getsockname()[0]
    if token is None and not ipaddress.ip_address(host).is_loopback:
        print(
            f"warning: anyone who reaches {_url(listener)} can search. Set a token with --token-file, or in the "
            f"environment variable {TOKEN_VARIABLE}.",
            file=sys.stderr,
        )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _raise_file_limit() -> None:
    """Each connection is an open file, and the usual soft limit is 1,024 or less."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:
        logger.warning("The limit of open files stays at %d, so that many connections can be held: %s", soft, error)
