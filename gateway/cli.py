"""The command line: which commands there are. What each does stands in its own module, imported only when it is needed.

Exit codes: 0 fine, 1 failed while running, 2 usage, 3 configuration invalid.
"""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final, TypeAlias

from gateway import __version__

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  it has no public name
Add: TypeAlias = Callable[["Subparsers"], None]

FAILED: Final = 1
_NOT_TAKEN: Final = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE}
"""Why standard output takes no more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _hold_standard_streams()
    try:
        return _do(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # where a command does not see to it itself
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)  # a shell's loop ends only when the command has ended by the signal
        return FAILED
    except OSError as error:  # the commands see to files and peers themselves
        if error.errno not in _NOT_TAKEN:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is held would be written at the end again, and fail again
        sys.stderr.write(f"gateway: standard output: {error.strerror}\n")
        return FAILED


def _do(given: Sequence[str]) -> int:
    """Run a command. Raises OSError when standard output does not take what is printed."""
    try:
        with _plain_interrupt():
            options = parser(only=given[0] if given else None).parse_args(given)
        code: int = options.func(options)
        return code
    finally:
        sys.stdout.flush()


@contextmanager
def _plain_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once: raised in the middle of an import, a KeyboardInterrupt may be lost, or be a crash."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, for a command in the background
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _hold_standard_streams() -> None:
    """Keep the numbers of standard streams that are closed: else a socket gets one, and what is written there goes into it (faults F5).

    What is written to standard output still fails, and is counted where lines of the log are; what is written to standard error is lost.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # it gets this number, the lowest that is free
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def parser(*, only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `func`, a function of the options that returns the exit code.

    With the name of a command as `only`, the parser knows this one alone: the others need not be imported.
    """
    top = argparse.ArgumentParser(prog="gateway", description="The gateway between a wallet's app and Alipay+.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in dict.fromkeys([COMMANDS[only]] if only in COMMANDS else COMMANDS.values()):
        add(commands)
    return top


def _run(commands: Subparsers) -> None:
    def run(options: argparse.Namespace) -> int:
        code: int = import_module("gateway.server.process").run(options.config)
        return code

    _with_file(commands, "run", "serve", run)


def _configuration(commands: Subparsers) -> None:
    configuration = import_module("gateway.config.commands")
    checks = import_module("gateway.runtime").CHECKS

    def check(options: argparse.Namespace) -> int:
        connect = {"connect": import_module("gateway.commands.connect").connect} if options.connect else {}
        code: int = configuration.check(options.config, checks, **connect)
        return code

    checking = _with_file(commands, "check", "list every fault of a configuration", check)
    checking.add_argument(
        "--connect", action="store_true", help="then try each peer: TLS, and the Date of one HEAD /; nothing signed is sent"
    )
    _with_file(commands, "config", "print the effective configuration, secrets masked", lambda o: configuration.show(o.config, checks))
    schema = commands.add_parser("schema", help="print the configuration's JSON Schema")
    schema.set_defaults(func=lambda _: configuration.schema())


def _module(name: str) -> Add:
    """Return what adds the commands of this module."""
    return lambda commands: import_module(name).add_parser(commands)


_SERVICE: Final = _module("gateway.commands.service")
_SIGNATURE: Final = _module("gateway.commands.signature")
_SIMULATOR: Final = _module("gateway.simulator.commands")

COMMANDS: Final[dict[str, Add]] = {
    "run": _run,
    "reload": _SERVICE,
    "stop": _SERVICE,
    "healthcheck": _SERVICE,
    "check": _configuration,
    "config": _configuration,
    "schema": _configuration,
    "routes": _module("gateway.commands.routes"),
    "keys": _module("gateway.commands.keys"),
    "sign": _SIGNATURE,
    "verify": _SIGNATURE,
    "call": _module("gateway.commands.call"),
    "simulate": _SIMULATOR,
    "demo": _SIMULATOR,
}


def _with_file(commands: Subparsers, name: str, text: str, func: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the configuration file")
    command.set_defaults(func=func)
    return command
