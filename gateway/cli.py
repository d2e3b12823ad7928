"""The command line: which commands there are. What each does stands in its own module.

Exit codes: 0 fine, 1 failed while running, 2 usage, 3 configuration invalid.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gateway import __version__, runtime
from gateway.commands import call, connect, keys, routes, signature
from gateway.config import commands as configuration
from gateway.server import process
from gateway.simulator import commands as simulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    code: int = options.func(options)
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `func`, a function of the options that returns the exit code."""
    top = argparse.ArgumentParser(prog="gateway", description="The gateway between a wallet's app and Alipay+.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _with_file(commands, "run", "serve", lambda options: process.run(options.config))
    check = _with_file(commands, "check", "list every fault of a configuration", _check)
    check.add_argument("--connect", action="store_true", help="then try each peer: TLS, and the Date of one HEAD /; nothing signed is sent")
    _with_file(
        commands, "config", "print the effective configuration, secrets masked", lambda o: configuration.show(o.config, runtime.CHECKS)
    )
    schema = commands.add_parser("schema", help="print the configuration's JSON Schema")
    schema.set_defaults(func=lambda _: configuration.schema())
    for module in (routes, keys, signature, call, simulator):
        module.add_parser(commands)
    return top


def _check(options: argparse.Namespace) -> int:
    if not options.connect:
        return configuration.check(options.config, runtime.CHECKS)
    return configuration.check(options.config, runtime.CHECKS, connect.connect)


def _with_file(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, func: object
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the configuration file")
    command.set_defaults(func=func)
    return command
