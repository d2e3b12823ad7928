"""`gateway sign` and `gateway verify`: signatures on files, for debugging with a partner (protocol section 3)."""

import argparse
import hashlib
import re
import sys
from typing import Final

from gateway.alipayplus.diagnose import Diagnosis, diagnose
from gateway.alipayplus.keys import VerificationKey
from gateway.alipayplus.mistakes import Text
from gateway.alipayplus.signature import URI, SignatureError, decode_signature, format_signature, parse_signature, string_to_sign
from gateway.commands.input import FAILED, USAGE, UnusableInput, demand_utf8, public_half, read, refuse, signing_key, verification_key
from gateway.config.rules import KEY_VERSION

_HEADER_TEXT: Final = re.compile("[\t -~\x80-\xff]*")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `sign` and `verify`."""
    sign_ = subparsers.add_parser("sign", help="sign a body", description="Print the value of a request's Signature header.")
    sign_.add_argument("--key", metavar="FILE", required=True, help="our private key")
    sign_.add_argument("--password-file", metavar="FILE", help="the password of an encrypted key, on the first line")
    sign_.add_argument("--key-version", metavar="V", default="1", help="the version to name (default: %(default)s)")
    sign_.add_argument("--verbose", action="store_true", help="show on standard error what was signed")
    _add_text(sign_, "Request-Time")
    sign_.set_defaults(func=sign)
    verify_ = subparsers.add_parser(
        "verify",
        help="verify a signature; say which mistake explains a wrong one",
        description="Verify a signature. When it is wrong, try the likely mistakes and say which one explains it.",
    )
    verify_.add_argument("--key", metavar="FILE", required=True, help="the public key of who signed")
    verify_.add_argument("--signature", metavar="S", required=True, help="the Signature header's value, or the signature alone")
    verify_.add_argument("--own-key", metavar="FILE", help="our own key: is it signed with that one instead?")
    _add_text(verify_, "Response-Time (of an answer) or Request-Time (of a request)")
    verify_.set_defaults(func=verify)


def _add_text(parser: argparse.ArgumentParser, time: str) -> None:
    parser.add_argument("--client-id", metavar="ID", required=True, help="the client id")
    parser.add_argument("--time", metavar="T", required=True, help=time)
    parser.add_argument("--uri", metavar="U", default=URI, help="the path of the request, with its query (default: %(default)s)")
    parser.add_argument("body", metavar="BODY", help="the file with the body's exact bytes, or - for standard input")


def sign(args: argparse.Namespace) -> int:
    """Print the value of the Signature header."""
    try:
        _demand(client_id=args.client_id, time=args.time, uri=args.uri)
        key = signing_key(args.key, args.password_file, _version(args.key_version))
        data = _data(args, read(args.body))
    except UnusableInput as error:
        return refuse(error, USAGE)
    if args.verbose:
        print(f"signed, {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}:", file=sys.stderr)
        print(data.decode("utf-8", "backslashreplace"), file=sys.stderr)
    print(format_signature(key.sign(data), key.version))
    return 0


def verify(args: argparse.Namespace) -> int:
    """Say OK, or what is wrong and which mistake explains it."""
    try:
        demand_utf8(args.signature, "--signature")
        key = verification_key(args.key)
        own_key = public_half(args.own_key) if args.own_key else None
        body = read(args.body)
        data = _data(args, body)
    except UnusableInput as error:
        return refuse(error, USAGE)
    given = re.sub(r"^\s*signature:\s*", "", args.signature, flags=re.IGNORECASE)
    reason = _wrong(key, data, given)
    if reason is None:
        print("OK")
        return 0
    print(f"not verified: {reason}")
    found = diagnose(Text(args.uri, args.client_id, args.time, body), given, key, own_key)
    for note in found.notes:
        print(f"  {note}")
    print(_conclusion(found))
    for mistake in found.mistakes or ():
        print(f"  {mistake}")
    return FAILED


def _conclusion(found: Diagnosis) -> str:
    if found.mistakes is None:
        return "none of the likely mistakes explains it"
    return "this explains the signature (it verifies then):" if found.mistakes else "apart from that the signature is right"


def _version(given: str) -> str:
    complaint = KEY_VERSION.complaint(given)
    if complaint:
        raise UnusableInput(f"--key-version: {complaint}")
    return given


def _demand(**given: str) -> None:
    """Raise UnusableInput for an option that is empty, as of a variable that is not set."""
    for name, text in given.items():
        if not text.strip():
            raise UnusableInput(f"--{name.replace('_', '-')} is empty")


def _data(args: argparse.Namespace, body: bytes) -> bytes:
    if not all(map(_HEADER_TEXT.fullmatch, (args.uri, args.client_id, args.time))):
        raise UnusableInput("--uri, --client-id and --time can't hold characters that no header can hold")
    return string_to_sign(args.uri, args.client_id, args.time, body)


def _wrong(key: VerificationKey, data: bytes, given: str) -> str | None:
    if not given.strip():
        return "no signature was given"
    try:
        signature = parse_signature(given).signature if "signature=" in given else decode_signature(given)
        key.verify(data, signature)
    except SignatureError as error:
        return str(error)
    return None
