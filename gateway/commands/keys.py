"""`gateway keys generate` and `gateway keys show`: making our key pair, and seeing which keys a configuration uses.

Changing the pair is `gateway.commands.rotate`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from gateway.alipayplus.keyring import read_signing_key, read_verification_key
from gateway.alipayplus.keys import NEW_SIZES, KeyFormatError, VerificationKey, generate_private_key, private_pem
from gateway.commands import rotate
from gateway.commands.input import FAILED, refuse, refuse_configuration
from gateway.config import Config, ConfigError, PrivateKey, load

PRIVATE: Final = "mpp-private.pem"
PUBLIC: Final = "mpp-public.pem"
PORTAL: Final = "mpp-public.txt"

_NEXT: Final = """\
{private}
    The private key (RSA, {bits} bits). Keep it secret; the gateway reads it.
{public}
    The public key.
{portal}
    The public key in the form that the Alipay+ portal takes (base64 of the DER, one line).
Fingerprint (SHA-256): {fingerprint}

Next:
  1. Give the line in {portal} to Alipay+ (the portal's key page), and note the key version that it gets there.
  2. Name the private key in the configuration under that version:
       alipayplus:
         signing:
           key_version: "1"
           private_keys: {{"1": {absolute}}}
  3. Save the public key of Alipay+ (not this one) and name it under verification.public_keys.
  4. gateway check -c FILE
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `keys` with its own sub commands."""
    keys = subparsers.add_parser("keys", help="make a key pair, show the keys in use, rotate", description="Our keys and those of Alipay+.")
    commands = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    make = commands.add_parser("generate", help="make a key pair", description="Make an RSA key pair in DIR. Never overwrites a file.")
    make.add_argument("directory", metavar="DIR", type=Path, help="where the files go; made if it is not there")
    make.add_argument("--bits", type=int, choices=NEW_SIZES, default=NEW_SIZES[0], help="the key's size (default: %(default)s)")
    make.set_defaults(func=generate)
    shown = commands.add_parser("show", help="show the keys that a configuration uses", description="List the keys, never their content.")
    shown.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the configuration file")
    shown.set_defaults(func=show)
    next_pair = "Make the next key pair beside the active one, check both, and say what to do. Changes nothing that is there."
    rotate.add_arguments(commands.add_parser("rotate", help="prepare the change to a new key", description=next_pair))


def generate(args: argparse.Namespace) -> int:
    """Make a key pair and say what to do with it."""
    directory: Path = args.directory
    pair = rotate.Pair(directory / PRIVATE, directory / PUBLIC, directory / PORTAL)
    for file in pair.files:
        if os.path.lexists(file):
            return refuse(f"{file} exists already and is not overwritten", FAILED)
    if os.path.lexists(directory) and not directory.is_dir():
        return refuse(f"{directory}: Not a directory", FAILED)
    key = generate_private_key(args.bits)
    mate = VerificationKey.of(key.public_key())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair.write(private_pem(key), mate)
    except OSError as error:
        return refuse(f"{error.filename or directory}: {error.strerror}", FAILED)
    sys.stdout.write(
        _NEXT.format(
            private=pair.private,
            absolute=pair.private.resolve(),
            public=pair.public,
            portal=pair.portal,
            bits=args.bits,
            fingerprint=mate.fingerprint,
        )
    )
    return 0


class Row(NamedTuple):
    """One key of a configuration; where it can't be read, `fingerprint` says why and `bits` is empty."""

    use: str
    version: str
    bits: str
    fingerprint: str
    file: str


def show(args: argparse.Namespace) -> int:
    """List the keys of a configuration: 1 if one of them can't be read, 3 if the configuration is not valid."""
    try:
        config = load(args.config).config
    except ConfigError as error:
        return refuse_configuration(error)
    found = list(rows(config))
    table = [Row("use", "version", "bits", "fingerprint (SHA-256)", "file"), *found]
    widths = [max(len(row[column]) for row in table) for column in range(len(Row._fields))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if all(row.bits for row in found) else FAILED


def rows(config: Config) -> Iterator[Row]:
    """Give every key of the configuration: ours first, then those of Alipay+."""
    signing = config.alipayplus.signing
    for version, entry in signing.private_keys.items():
        use = "signing (active)" if version == signing.key_version else "signing (ready)"
        yield _row(use, version, entry.file, partial(_public_half, entry, version))
    for version, file in config.alipayplus.verification.public_keys.items():
        yield _row("verification", version, file, partial(read_verification_key, file))


def _public_half(entry: PrivateKey, version: str) -> VerificationKey:
    return read_signing_key(entry, version).public


def _row(use: str, version: str, file: Path, read: Callable[[], VerificationKey]) -> Row:
    try:
        key = read()
    except KeyFormatError as error:
        return Row(use, version, "", str(error), str(file))
    except OSError as error:
        return Row(use, version, "", f"can't be read: {error.strerror}", str(file))
    return Row(use, version, str(key.bits), key.fingerprint, str(file))
