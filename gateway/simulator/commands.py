"""`gateway simulate` and `gateway demo`: the simulated peers for people."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from gateway.config import ConfigError, load
from gateway.simulator import demo, interruption, manual
from gateway.simulator.arrival import URI
from gateway.simulator.configuration import DEFAULT_PORTS, Ports
from gateway.simulator.making import make_missing
from gateway.simulator.peers import CannotListen, Peers
from gateway.simulator.playing import CannotPlay, setup_for
from gateway.simulator.simulator import CannotWrite, Simulator, temporary_folder

OK, FAILED, INVALID = 0, 1, 3
LAST_BASE: Final = 65535 - 4


class CannotStart(Exception):
    """The simulator can't be started as asked; the text says why."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `simulate` and `demo`."""
    simulate = subparsers.add_parser(
        "simulate",
        help="run a simulated Alipay+, auth service and MPP API",
        description="Run a simulated Alipay+ (over TLS; it verifies all it gets, and signs), an auth service and an MPP API,"
        " until SIGINT or SIGTERM.",
        epilog=manual.text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    simulate.add_argument("-c", "--config", metavar="FILE", type=Path, help="play the peers that this gateway configuration names")
    simulate.add_argument(
        "--dir", metavar="DIR", type=Path, help="without -c: where keys and gateway.yaml are written (default: a temporary folder)"
    )
    simulate.add_argument("--api", action="store_true", help="with -c: play the MPP API too, as the first server of it")
    simulate.add_argument(
        "--make-keys", action="store_true", help="with -c: only make the keys and the CA that the configuration names and that are missing"
    )
    simulate.add_argument("--fast", action="store_true", help="for load tests: verify and keep nothing, one answer, no scripts")
    _add_port_base(simulate)
    simulate.set_defaults(func=partial(_run_simulator, simulate))
    shown = subparsers.add_parser(
        "demo",
        help="one SDK request through a gateway and simulated peers, step by step",
        description="Start the simulated peers and a gateway in front of them, send the specification's sample as an app would,"
        " show each step, and serve until Ctrl-C.",
    )
    shown.add_argument("--once", action="store_true", help="end after the sample")
    _add_port_base(shown)
    shown.set_defaults(func=lambda options: _exit_code(demo.run(_ports(options), once=options.once)))


def _run_simulator(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.config and (options.dir or options.port_base):
        parser.error("with -c, folder and ports are those of the configuration: leave --dir and --port-base out")
    if (options.api or options.make_keys) and not options.config:
        parser.error("--api and --make-keys are of a configuration: add -c FILE")
    return _exit_code(_simulate(options))


def _add_port_base(parser: argparse.ArgumentParser) -> None:
    defaults = DEFAULT_PORTS
    parser.add_argument(
        "--port-base",
        metavar="N",
        type=_port_base,
        help="use ports N to N+4 for gateway, admin, Alipay+, auth service and MPP API (default:"
        f" {defaults.gateway}, {defaults.admin}, {defaults.alipayplus}, {defaults.auth}, {defaults.mpp})",
    )


def _port_base(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LAST_BASE):
        raise argparse.ArgumentTypeError(f"a number from 1 to {LAST_BASE}")
    return int(text)


def _ports(options: argparse.Namespace) -> Ports:
    return DEFAULT_PORTS if options.port_base is None else Ports.from_base(options.port_base)


def _exit_code(work: "demo.Work") -> int:
    try:
        return interruption.run(work)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return INVALID
    except (CannotListen, CannotPlay, CannotStart, CannotWrite, demo.DemoFailed) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return FAILED


async def _simulate(options: argparse.Namespace) -> int:
    if options.make_keys:
        return _make_keys(options.config)
    if options.config:
        playing = _playing(options)
    elif options.dir:
        playing = _generated(options.dir, options)
    else:
        playing = _temporary(options)
    async with playing as lines:
        print("\n".join((*lines, "Ctrl-C ends it.")), flush=True)
        await asyncio.Event().wait()
    return OK


_LOGIN: Final = "a login         Authorization: Bearer demo-token-NAME"


def _make_keys(path: Path) -> int:
    made = make_missing(load(path).config.alipayplus)
    print("\n".join(f"made {file}" for file in made) or "all keys are there")
    return OK


@asynccontextmanager
async def _playing(options: argparse.Namespace) -> AsyncIterator[Sequence[str]]:
    setup = setup_for(load(options.config).config, fast=options.fast, api=options.api)
    async with Peers(setup):
        places = setup.places
        alipayplus = ", ".join(f"https://{address}{URI}" for address in places.alipayplus)
        mpp = (f"MPP API         http://{places.mpp}",) if places.mpp else ()
        yield (f"Alipay+         {alipayplus}", f"auth service    http://{places.auth}", *mpp, _LOGIN)


@asynccontextmanager
async def _temporary(options: argparse.Namespace) -> AsyncIterator[Sequence[str]]:
    with temporary_folder("gateway-simulator-") as directory:
        async with _generated(directory, options) as lines:
            yield lines


@asynccontextmanager
async def _generated(directory: Path, options: argparse.Namespace) -> AsyncIterator[Sequence[str]]:
    if _is_in_use(directory):
        raise CannotStart(
            f"{directory} holds a configuration or keys already, and nothing is overwritten: gateway simulate -c FILE plays its peers"
        )
    async with Simulator(directory, ports=_ports(options), fast=options.fast) as simulator:
        path = simulator.write_configuration()
        ports = simulator.ports
        yield (
            f"Alipay+         https://127.0.0.1:{ports.alipayplus}{URI}",
            f"auth service    http://127.0.0.1:{ports.auth}/session and /introspect",
            f"MPP API         http://127.0.0.1:{ports.mpp}/api/balance",
            _LOGIN,
            "",
            "A gateway in front of them, and a request for it:",
            f"  gateway run -c {path}",
            f"  gateway call http://127.0.0.1:{ports.gateway} --header 'Authorization: Bearer demo-token-anna'",
            "",
            *(() if options.fast else _by_hand(simulator)),
        )


def _by_hand(simulator: Simulator) -> Sequence[str]:
    control = f"curl --cacert {simulator.ca} https://127.0.0.1:{simulator.ports.alipayplus}/_simulator"
    return (
        "Script Alipay+, and see what it got (gateway simulate --help says all):",
        f'  {control}/script -d \'{{"code": "PROCESS_FAIL"}}\'',
        f"  {control}/received",
        "",
    )


def _is_in_use(directory: Path) -> bool:
    return any(os.path.lexists(directory / name) for name in ("gateway.yaml", "keys", "tls"))
