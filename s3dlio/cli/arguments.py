"""The command line: every command, its options, and what is wrong with a line that cannot be used.

``-h`` is ``--human-readable``, as in `ls` and `du`; help is ``--help``. Options that every command has may stand before
the command or after it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from .exits import UsageError
from .text import parse_age, parse_size

T = TypeVar("T")

DESCRIPTION = "Moves data to and from S3-compatible stores."
EPILOG = """\
A URI names one object; with a trailing / it stands for what lies below it, and with *, ? or [ it is a glob (quote it).
Exit codes: 0 done; 1 something failed, or nothing was found; 2 something was skipped; 130 interrupted; 252 wrong usage;
253 no credentials or settings; 254 the store refused; 255 anything else.
"""


class Parser(argparse.ArgumentParser):
    """Raises what is wrong instead of ending the process with a code of its own."""

    def __init__(self, **options: Any) -> None:
        settings = {"formatter_class": argparse.RawDescriptionHelpFormatter, "add_help": False, "allow_abbrev": False}
        super().__init__(**{**options, **settings})
        self.add_argument("--help", action="help", help="show this help and exit")
        self.commands: dict[str, Parser] = {}

    @property
    def options(self) -> list[str]:
        """All options, such as ``--json`` and ``-r``."""
        return [name for action in self._actions for name in action.option_strings]

    def _print_message(self, message: str, file: Any = None) -> None:
        (sys.stdout if file is None else file).write(message)  # argparse itself hides that the disk is full

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


class Filter(argparse.Action):
    """Keeps ``--include`` and ``--exclude`` in the order in which they were given."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        before = getattr(namespace, "filters", None) or []
        namespace.filters = [*before, ("include" if option == "--include" else "exclude", value)]


def converted(convert: Callable[[str], T]) -> Callable[[str], T]:
    """A type of argparse that says itself what is wrong with a value."""

    def check(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return check


def number(low: float, high: float, what: str, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """A type of argparse: a number within bounds."""

    def check(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not from {low:g} to {high:g} {what}")
        return value

    return check


def byte_range(text: str) -> tuple[int | None, int | None]:
    """``0-99`` (both included), ``100-`` or ``-100`` (the last hundred), as in HTTP."""
    first, dash, last = text.partition("-")
    good = dash and (first or last) and all(one.isascii() and one.isdigit() for one in (first, last) if one)
    if not good or (first and last and int(last) < int(first)):
        raise ValueError(f"{text!r} is no range; write 0-99, 100- or -100")
    return int(first) if first else None, int(last) if last else None


def pair(text: str) -> tuple[str, str]:
    """``name:value``."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"{text!r} is not of the form name:value")
    return name.strip(), value.strip()


def parse(
    arguments: Sequence[str], parser: Parser | None = None, defaults: argparse.Namespace | None = None
) -> argparse.Namespace:
    """The options of a command line; ``call`` names what runs it, as ``module:function``.

    Args:
        parser: one that was built before; None builds it.
        defaults: what options have that are not given.

    Raises:
        UsageError: it cannot be used.
        SystemExit: it asked for help or the version, which were shown.
    """
    return (parser or build()).parse_args(arguments, defaults)


def build() -> Parser:
    """The whole parser."""
    import s3dlio

    parser = Parser(prog="s3dlio", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"s3dlio {s3dlio.__version__}")
    _common(parser, top=True)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command", parser_class=Parser)
    for name, (call, summary, add) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.set_defaults(call=call)
        parser.commands[name] = command
        add(command)
        _common(command)
    return parser


def _common(parser: argparse.ArgumentParser, top: bool = False) -> None:
    """Options of every command. After the command they have no defaults, which would hide what stands before it."""

    def add(group: Any, *names: str, default: Any = None, **options: Any) -> None:
        group.add_argument(*names, default=default if top else argparse.SUPPRESS, **options)

    store = parser.add_argument_group("the store")
    add(store, "--endpoint-url", metavar="URL", help="https://host[:port]; else AWS_ENDPOINT_URL_S3, the profile, AWS")
    add(store, "--profile", help="profile of the shared files")
    add(store, "--region", help="region to sign for")
    add(store, "--no-sign-request", action="store_true", default=False, help="send requests without credentials")
    add(store, "--ca-bundle", metavar="FILE", help="certificate authorities to trust")
    add(store, "--no-verify-ssl", action="store_true", default=False, help="accept any TLS certificate")
    add(store, "--addressing-style", choices=("auto", "path", "virtual"), help="how requests name the bucket")
    add(store, "--max-attempts", type=number(1, 100, "attempts"), metavar="N", help="attempts of one request, in all")
    add(store, "--timeout", type=number(0.001, 86400, "seconds", float), metavar="SECONDS",
        help="longest wait without progress")  # fmt: skip
    output = parser.add_argument_group("output")
    add(output, "--json", action="store_true", default=False, help="one JSON object a line, errors too, and a summary")
    add(output, "-h", "--human-readable", action="store_true", default=False, help="sizes as 1.5 MiB")
    add(output, "-q", "--quiet", action="store_true", default=False, help="errors only")
    add(output, "--no-progress", action="store_true", default=False, help="no progress on stderr")
    add(output, "--progress-every", type=number(0.01, 86400, "seconds", float), default=5.0, metavar="SECONDS",
        help="between two lines of progress where stderr is no terminal (5)")  # fmt: skip
    add(
        output, "-v", "--verbose", action="count", default=0, help="requests that are sent again; -vv: more, tracebacks"
    )
    add(output, "--debug", action="store_true", default=False, help="the same as -vv")


def _uris(
    parser: argparse.ArgumentParser, count: str = "+", what: str = "s3://bucket/key, s3://bucket/prefix/ or a glob"
) -> None:
    parser.add_argument("uris", nargs=count, metavar="URI", help=what)


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(filters=None)
    for name, effect in (("--include", "take"), ("--exclude", "leave out")):
        parser.add_argument(name, action=Filter, dest="filters", metavar="GLOB",
                            help=f"{effect} what matches, below the root; the last match decides")  # fmt: skip


def _yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the same lines, and change nothing")


def _version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version-id", metavar="ID", help="a version other than the current one")


def _ls(parser: argparse.ArgumentParser) -> None:
    _uris(parser, "*", "what to list; without one, the buckets")
    parser.add_argument("-r", "--recursive", action="store_true", help="list what lies below prefixes, too")
    parser.add_argument("-1", "--uris", dest="only_uris", action="store_true", help="URIs only")
    parser.add_argument("-0", "--null", action="store_true", help="URIs only, each ended by a NUL, for xargs -0")
    _filters(parser)


def _du(parser: argparse.ArgumentParser) -> None:
    _uris(parser)
    parser.add_argument("-d", "--max-depth", type=number(0, 1000, "levels"), default=0, metavar="N",
                        help="a line for every prefix down to this depth, too")  # fmt: skip
    _filters(parser)


def _stat(parser: argparse.ArgumentParser) -> None:
    _uris(parser, what="s3://bucket/key")
    _version(parser)


def _cat(parser: argparse.ArgumentParser) -> None:
    _uris(parser)
    parser.add_argument("--range", dest="byte_range", type=converted(byte_range), metavar="RANGE",
                        help="bytes of each object: 0-99, 100- or -100, as in HTTP (write --range=-100)")  # fmt: skip
    _version(parser)


def _headers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--content-type", metavar="TYPE")
    parser.add_argument("--cache-control", metavar="TEXT")
    parser.add_argument("--content-encoding", metavar="TEXT")
    parser.add_argument("--content-disposition", metavar="TEXT")
    parser.add_argument("--storage-class", metavar="CLASS")
    parser.add_argument("--metadata", type=converted(pair), action="append", metavar="NAME:VALUE")
    parser.add_argument("--part-size", type=converted(parse_size), metavar="SIZE", help="of a multipart upload (16MiB)")
    parser.add_argument("--no-overwrite", action="store_true", help="fail where the object exists")


def _pipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="the object to write")
    _headers(parser)
    parser.add_argument("--expected-size", type=converted(parse_size), metavar="SIZE",
                        help="a hint, for parts that need not grow")  # fmt: skip


def _buckets(parser: argparse.ArgumentParser) -> None:
    _uris(parser, what="s3://bucket")


def _rb(parser: argparse.ArgumentParser) -> None:
    _buckets(parser)
    parser.add_argument("--force", action="store_true", help="delete all that it holds first, versions too")
    _yes(parser)


def _rm(parser: argparse.ArgumentParser) -> None:
    _uris(parser)
    parser.add_argument("-r", "--recursive", action="store_true", help="delete what lies below a URI that ends in /")
    parser.add_argument("--max-delete", type=number(0, 1e15, "objects"), metavar="N",
                        help="delete nothing where there are more")  # fmt: skip
    parser.add_argument("--all-versions", action="store_true", help="delete every version, for good")
    _version(parser)
    _filters(parser)
    _dry_run(parser)
    _yes(parser)


def _presign(parser: argparse.ArgumentParser) -> None:
    _uris(parser, what="s3://bucket/key")
    parser.add_argument("--expires", type=converted(parse_age), default="1h", metavar="TIME",
                        help="90s, 15m, 12h or 7d, which is the longest (1h)")  # fmt: skip
    parser.add_argument("--method", choices=("GET", "HEAD", "PUT", "DELETE"), default="GET")
    parser.add_argument("--header", type=converted(pair), action="append", metavar="NAME:VALUE",
                        help="a header that has to be sent")  # fmt: skip
    parser.add_argument("--response-header", type=converted(pair), action="append", metavar="NAME:VALUE",
                        help="a header that the response is to have")  # fmt: skip
    _version(parser)


def _uploads(parser: argparse.ArgumentParser) -> None:
    _uris(parser)
    parser.add_argument("--abort", action="store_true", help="abort those that are older than --older-than")
    parser.add_argument("--older-than", type=converted(parse_age), metavar="TIME", help="12h, 7d")


def _versions(parser: argparse.ArgumentParser) -> None:
    _uris(parser)
    parser.add_argument("--undelete", action="store_true", help="delete the delete markers that hide objects")


def _transfer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a file, a folder, a URI, or - for stdin")
    parser.add_argument("destination", metavar="DESTINATION", help="a file, a folder, a URI, or - for stdout")
    parser.add_argument("-r", "--recursive", action="store_true", help="copy what a folder or a prefix holds")
    _filters(parser)
    _dry_run(parser)
    parser.add_argument("-j", "--jobs", type=number(1, 1024, "jobs"), metavar="N", help="files, and parts, at once")
    parser.add_argument("--skip-existing", action="store_true", help="leave what has the same size and checksum")
    parser.add_argument("--resume", action="store_true", help="continue what an earlier call with --resume left")
    parser.add_argument("--preserve-times", action="store_true", help="keep the files' modification times")
    parser.add_argument("--no-follow-symlinks", action="store_true", help="leave links out")
    parser.set_defaults(version_id=None, expected_size=None)
    _headers(parser)


def _sync(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a folder, or s3://bucket/prefix/")
    parser.add_argument("destination", metavar="DESTINATION", help="a folder, or s3://bucket/prefix/")
    parser.add_argument("--delete", action="store_true", help="delete what the source has not, after all else")
    parser.add_argument("--max-delete", type=number(0, 1e15, "files"), metavar="N", help="delete nothing if more")
    parser.add_argument("--allow-empty", action="store_true", help="let an empty source empty the destination")
    parser.add_argument("--size-only", action="store_true", help="files of the same size are the same")
    parser.add_argument("--checksum", action="store_true", help="compare checksums even where size and time agree")
    _filters(parser)
    _dry_run(parser)
    parser.add_argument("-j", "--jobs", type=number(1, 1024, "jobs"), default=64, metavar="N",
                        help="files, and parts, at once (64)")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="continue what an earlier call with --resume left")
    parser.add_argument("--no-follow-symlinks", action="store_true", help="leave links out")
    parser.set_defaults(expected_size=None)
    _headers(parser)


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a command a line, without s3dlio; - for stdin; # begins a comment"
    )
    parser.add_argument("-j", "--jobs", type=number(1, 256, "commands"), default=16, metavar="N",
                        help="commands at once (16); their order is not kept")  # fmt: skip


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="s3://bucket/prefix/; what is stored below it is deleted again")
    parser.add_argument("--seconds", type=number(0.01, 3600, "seconds", float), default=5.0, metavar="N",
                        help="of each of the five measurements (5)")  # fmt: skip
    parser.add_argument("--large", type=converted(parse_size), default=256 << 20, metavar="SIZE",
                        help="of a large object (256MiB)")  # fmt: skip
    parser.add_argument("--small", type=converted(parse_size), default=4 << 10, metavar="SIZE",
                        help="of a small object (4KiB)")  # fmt: skip


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", nargs="?", choices=("bash", "zsh", "fish"), help="whose script to print")
    parser.add_argument("--uris", metavar="BEGINNING", help="print what begins like this; the scripts ask so")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", nargs="?", metavar="URI", help="s3://bucket to try it; s3://bucket/prefix/ to write a "
                        "small object there too, which is deleted")  # fmt: skip


Add = Callable[[argparse.ArgumentParser], None]
# Each command: the function that runs it, what it does, and its own options.
COMMANDS: dict[str, tuple[str, str, Add]] = {
    "ls": ("listing:ls", "list buckets, objects and prefixes", _ls),
    "du": ("listing:du", "add up the sizes of objects", _du),
    "stat": ("objects:stat", "show what the store reports about objects", _stat),
    "cat": ("objects:cat", "write objects to stdout", _cat),
    "pipe": ("objects:pipe", "store stdin as an object", _pipe),
    "cp": ("transfers:cp", "copy files and objects", _transfer),
    "mv": ("transfers:mv", "move files and objects", _transfer),
    "sync": ("sync:sync", "make a destination like its source", _sync),
    "rm": ("removing:rm", "delete objects", _rm),
    "mb": ("buckets:mb", "create buckets", _buckets),
    "rb": ("buckets:rb", "delete buckets", _rb),
    "presign": ("objects:presign", "sign URLs for callers without credentials", _presign),
    "uploads": ("uploads:uploads", "list multipart uploads in progress, or abort old ones", _uploads),
    "versions": ("versions:versions", "list versions and delete markers", _versions),
    "run": ("batch:run", "run the commands of a file, side by side", _run),
    "doctor": ("doctor:doctor", "check settings, connection, store and machine", _doctor),
    "bench": ("bench:bench", "measure a store, with a table and bars", _bench),
    "completion": (
        "completion:completion",
        "print a script that completes commands and URIs",
        _completion,
    ),
}
