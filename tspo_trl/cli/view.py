"""`tspo-trl view`: show trajectories turn by turn with their credit."""

import argparse
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_evidence_arguments

if TYPE_CHECKING:
    from ..viewer import ViewOptions


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "view",
        help="show trajectories turn by turn with their credit",
        description="Write a report of trajectories as one HTML file, serve it, or print it. Takes the files of a "
        'training run or an evaluation, or JSON lines of the form {"question", "golden_answers", "prediction", "em", '
        '"turns": [{"text", "feedback"}]}.',
    )
    parser.add_argument("files", nargs="+", metavar="RUN_OR_FILE", help="trajectory file, or the folder of a run")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--output", metavar="FILE", help="HTML file to write (default: trajectories.html in the folder, or FILE.html)"
    )
    how.add_argument("--serve", action="store_true", help="serve the report on 127.0.0.1 and follow the files")
    how.add_argument(
        "--console", action="store_true", help="print the overview and the groups instead of writing a file"
    )
    parser.add_argument("--group", type=int, metavar="N", help="with --console: print this group turn by turn")
    parser.add_argument("--port", type=int, metavar="N", help="with --serve: port, 0 for a free one (default: 8765)")
    parser.add_argument("--open", action="store_true", help="open the report in a browser")
    parser.add_argument("--title", help="title of the report (default: names of the runs or files)")
    parser.add_argument(
        "--limit",
        type=int,
        default=10_000,
        metavar="N",
        help="approximate number of trajectories to show, spread evenly (default: %(default)s)",
    )
    add_evidence_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Write, serve or print the report. Raises as [`~tspo_trl.viewer.write_report`].

    Raises:
        `OSError`: If the port is in use.
        `ValueError`: If one option does not go with another.
    """
    from ..viewer import ViewOptions

    _check_options(args)
    options = ViewOptions(args.success_threshold, args.match, args.match_boolean_answers)
    if args.console:
        _print(args, options)
    elif args.serve:
        _serve(args, options)
    else:
        _write(args, options)


def _check_options(args: argparse.Namespace) -> None:
    if args.group is not None and not args.console:
        raise ValueError("--group needs --console. Add --console or remove --group.")
    if args.port is not None and not args.serve:
        raise ValueError("--port needs --serve. Add --serve or remove --port.")
    if args.console and (args.open or args.title is not None):
        raise ValueError("--open and --title do not work with --console. Remove --console or these options.")


def _write(args: argparse.Namespace, options: "ViewOptions") -> None:
    from ..viewer import write_report

    output = Path(args.output) if args.output else _default_output(Path(args.files[0]))
    path = write_report(args.files, output, options, title=args.title, limit=args.limit)
    print(f"Wrote {path}")
    if args.open:
        webbrowser.open(path.resolve().as_uri())


def _default_output(path: Path) -> Path:
    return path / "trajectories.html" if path.is_dir() else path.with_name(path.name + ".html")


def _serve(args: argparse.Namespace, options: "ViewOptions") -> None:
    from ..viewer.server import LivePage, make_server

    page = LivePage(args.files, options, title=args.title, limit=args.limit)
    page.html()  # report wrong files here, not in the browser
    with make_server(page.html, 8765 if args.port is None else args.port) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        print(f"Listening on {url} (press Ctrl-C to stop, reload the page to see new trajectories)", flush=True)
        if args.open:
            webbrowser.open(url)
        server.serve_forever()


def _print(args: argparse.Namespace, options: "ViewOptions") -> None:
    from rich.console import Console

    from ..viewer import make_report
    from ..viewer.console import print_group, print_groups, print_overview

    console = Console(markup=False, highlight=False, emoji=False)
    report = make_report(args.files, options, limit=args.limit)
    if args.group is None:
        print_overview(console, report)
        print_groups(console, report)
    else:
        print_group(console, report, args.group)
