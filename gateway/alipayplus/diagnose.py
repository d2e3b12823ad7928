"""Which mistake explains a signature that does not verify: for debugging with a partner (`gateway verify`).

RSA with PKCS#1 v1.5 gives back the digest that was signed. So whether the key is the right one, and which hash was used, is known
at once; what text was signed is then found by comparing digests: single mistakes first, then pairs, within a bound. Nothing here
decides whether an answer is believed.
"""

import hashlib
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from gateway.alipayplus.keys import VerificationKey
from gateway.alipayplus.mistakes import ASPECTS, Text

MOST_MISTAKES: Final = 2
BUDGET: Final = 1 << 30
"""Bytes that are hashed at most: one or two seconds."""

_HASHES: Final[tuple[tuple[str, hashes.HashAlgorithm], ...]] = (
    ("sha256", hashes.SHA256()),
    ("sha1", hashes.SHA1()),  # noqa: S303 - recognised, never accepted
    ("sha512", hashes.SHA512()),
    ("sha384", hashes.SHA384()),
    ("sha224", hashes.SHA224()),
    ("md5", hashes.MD5()),  # noqa: S303 - recognised, never accepted
)
_PSS_TRAILER: Final = 0xBC  # RFC 8017, section 9.1.1


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`mistakes` explain the signature together; None where nothing that was tried does, and none where the signature itself is right.

    `notes` are what is certain.
    """

    mistakes: tuple[str, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Witness:
    """A signature as some key can read it: with these mistakes, it holds for every text that `matches`."""

    mistakes: tuple[str, ...]
    matches: Callable[[bytes, bytes], bool]
    digest: str | None = None


def signature_text(given: str) -> str:
    """Take the signature itself out of a Signature header (with or without its name), or a bare one as it is. Never fails."""
    found = re.search(r"(?:^|[,\s])signature=([^,]*)", given)
    return found[1].strip() if found else given.strip()


def diagnose(text: Text, signature: str, key: VerificationKey, own_key: VerificationKey | None = None) -> Diagnosis:
    """Find the fewest mistakes with which `signature` (a header's value or base64) is a signature of `text`.

    `own_key` is our own public key, which may have been taken for theirs.
    """
    witnesses = list(_witnesses(signature_text(signature), key, own_key))
    notes = tuple(_notes(witnesses, text))
    budget = BUDGET
    for count in range(MOST_MISTAKES + 1):
        for witness in witnesses:
            for says, variant in _variants(text, count - len(witness.mistakes)):
                head = variant.head()
                budget -= len(head) + len(variant.body)
                if budget < 0:
                    return Diagnosis(None, (*notes, "the body is too large to try everything"))
                if witness.matches(head, variant.body):
                    return Diagnosis((*witness.mistakes, *says), notes)
    return Diagnosis(None, notes)


def _variants(text: Text, count: int, first: int = 0) -> Iterator[tuple[tuple[str, ...], Text]]:
    """Give all texts with exactly `count` mistakes, no two of them in one aspect."""
    if count < 0:
        return
    if count == 0:
        yield (), text
        return
    for position in reversed(range(first, len(ASPECTS))):  # the plainest first: a body serialised anew explains much
        for says, variant in ASPECTS[position](text):
            for others, result in _variants(variant, count - 1, position + 1):
                yield (says, *others), result


def _witnesses(signature: str, key: VerificationKey, own_key: VerificationKey | None) -> Iterator[_Witness]:
    for written, decoded in _readings(signature):
        yield from _with_key(decoded, key.key, written)
        if own_key is not None and own_key != key:
            yield from _with_key(decoded, own_key.key, (*written, "it is signed with our own key, not with theirs"))


def _readings(signature: str) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Give the signature's bytes as it should be read, and as it may have been written by mistake."""
    once = _unquote(signature)
    candidates = (
        ((), once),
        (("the signature is percent-encoded twice",), _unquote(once)),
        (("the signature's base64 padding is cut off",), _padded(once)),
        (("the signature is in the URL-safe base64 alphabet",), _padded(once.translate(str.maketrans("-_", "+/")))),
        (("a + of the signature was decoded as a space",), once.replace(" ", "+")),
        (("the signature is broken into lines",), "".join(once.split())),
    )
    seen = set[bytes]()
    for mistakes, text in candidates:
        try:
            decoded = b64decode(text, validate=True)
        except ValueError:
            continue
        if decoded not in seen:
            seen.add(decoded)
            yield mistakes, decoded
    if re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", once):
        yield ("the signature is in hexadecimal, not base64",), bytes.fromhex(once)


def _unquote(text: str) -> str:
    return unquote_to_bytes(text).decode("latin-1")


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


def _with_key(signature: bytes, key: rsa.RSAPublicKey, mistakes: tuple[str, ...]) -> Iterator[_Witness]:
    for name, algorithm in _HASHES:
        try:
            digest = key.recover_data_from_signature(signature, padding.PKCS1v15(), algorithm)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            continue
        wrong_hash = () if name == "sha256" else (f"the hash is {name.upper()}, not SHA-256",)
        yield _Witness((*mistakes, *wrong_hash), _digest_matcher(name, digest), f"{name.upper()} {digest.hex()}")
        if not wrong_hash:
            yield _Witness((*mistakes, "the text is hashed twice"), _twice_matcher(digest))
    if _looks_like_pss(signature, key):
        yield _Witness((*mistakes, "the padding is PSS, not PKCS#1 v1.5"), _pss_matcher(signature, key))


def _digest_matcher(name: str, digest: bytes) -> Callable[[bytes, bytes], bool]:
    def matches(head: bytes, body: bytes) -> bool:
        hashed = hashlib.new(name, head, usedforsecurity=False)
        hashed.update(body)
        return hashed.digest() == digest

    return matches


def _twice_matcher(digest: bytes) -> Callable[[bytes, bytes], bool]:
    def matches(head: bytes, body: bytes) -> bool:
        hashed = hashlib.sha256(head + body)
        return digest in {hashlib.sha256(hashed.digest()).digest(), hashlib.sha256(hashed.hexdigest().encode()).digest()}

    return matches


def _looks_like_pss(signature: bytes, key: rsa.RSAPublicKey) -> bool:
    numbers = key.public_numbers()
    return pow(int.from_bytes(signature), numbers.e, numbers.n) & 0xFF == _PSS_TRAILER


def _pss_matcher(signature: bytes, key: rsa.RSAPublicKey) -> Callable[[bytes, bytes], bool]:
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)

    def matches(head: bytes, body: bytes) -> bool:
        try:
            key.verify(signature, hashlib.sha256(head + body).digest(), scheme, Prehashed(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    return matches


def _notes(witnesses: list[_Witness], text: Text) -> Iterator[str]:
    readable = [witness for witness in witnesses if witness.digest]
    for witness in readable:
        whose = f" ({'; '.join(witness.mistakes)})" if witness.mistakes else ""
        yield f"the signature is whole and was made by the key's owner{whose}, over a text whose digest is {witness.digest}"
    if readable:
        yield f"the text given here has SHA256 {hashlib.sha256(text.head() + text.body).hexdigest()}"
    else:
        yield "the signature was not made (with PKCS#1 v1.5) by this key's owner, or is damaged: is it the key of the right environment?"
