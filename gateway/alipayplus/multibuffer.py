"""RSA signatures eight at a time, by Intel's multi-buffer library crypto_mb: where there is one, and a processor with AVX-512 IFMA.

Each of the processor's instructions then works on all eight, so that they take as long as two or three that are made one by one. The
library is optional: Debian and Ubuntu have it as libcrypto-mb11 or later, Fedora and EPEL as intel-ipp-crypto-mb, PyPI as ipp-crypto.

If one of the two halves of a signature (modulo p and q) goes wrong, what comes of it betrays the key (Boneh, DeMillo, Lipton 1997). OpenSSL
looks for that, this library does not: so each signature is verified here before anybody sees it.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ctypes import c_char, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from hashlib import sha256
from math import ceil
from pathlib import Path
from time import thread_time
from typing import Final

from gateway.alipayplus.keys import SigningKey

LANES: Final = 8
"""Signatures that are made at a time."""
NAMES: Final = ("libcrypto_mb.so.13", "libcrypto_mb.so.12", "libcrypto_mb.so.11")
"""Versions of the library whose functions are those that are called here."""

_FOLDER: Final = Path(sys.prefix, "lib")
_RUNTIME: Final = ("libintlc.so.5", "libimf.so", "libirng.so", "libsvml.so")  # what PyPI's build needs and does not find
_TRIES: Final = 3
_SIZES: Final = (2048, 3072, 4096)
_EXPONENT: Final = 65537
_SHA256: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # the DigestInfo before the digest (RFC 8017, section 9.2)
_Pointers: Final = c_void_p * LANES


class MultiBufferError(Exception):
    """The library did not sign, or not well. The text holds nothing of the key."""


class MultiBuffer:
    """The library with one key. Signs on the thread that asks, for one at a time.

    From `fewest` signatures on it takes no longer than OpenSSL does one by one. `library` is its file's name.
    """

    def __init__(self, library: ctypes.CDLL, key: SigningKey) -> None:
        """Take a library that `find_library` has returned, and a key that it `takes`."""
        self._library = library
        self.fewest = LANES
        self.library = Path(library._name).name  # noqa: SLF001  ctypes has no other name for it
        self._bits = key.public.bits
        self._size = self._bits // 8
        self._padding = b"\0\1".ljust(self._size - 1 - len(_SHA256) - sha256().digest_size, b"\xff") + b"\0" + _SHA256
        numbers = key.numbers()
        self._modulus = _number(numbers.public_numbers.n, self._size)
        self._parts = [_number(part, self._size // 2) for part in (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)]
        self._private = c_void_p(library.mbx_RSA_private_crt_Method(self._bits))
        self._public = c_void_p(library.mbx_RSA_pub65537_Method(self._bits))
        self._scratch = (c_char * max(map(library.mbx_RSA_Method_BufSize, (self._private, self._public))))()
        self._encoded, self._signed, self._opened = ((c_char * (LANES * self._size))() for _ in range(3))
        self._room = memoryview(self._encoded).cast("B")
        encoded, signed, opened = (_each(buffer, self._size) for buffer in (self._encoded, self._signed, self._opened))
        self._to_sign = (encoded, signed, *map(_same, self._parts), self._bits, self._private, self._scratch)
        self._to_verify = (signed, opened, _same(self._modulus), self._bits, self._public, self._scratch)

    def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """Return the PKCS#1 v1.5 signatures with SHA-256 of eight texts at most. Raises MultiBufferError."""
        used = len(texts) * self._size
        self._room[:used] = b"".join([self._padding + sha256(text).digest() for text in texts])
        if self._library.mbx_rsa_private_crt_mb8(*self._to_sign):
            raise MultiBufferError("crypto_mb has not signed")
        if self._library.mbx_rsa_public_mb8(*self._to_verify) or self._opened.raw != self._encoded.raw:
            raise MultiBufferError("a signature that crypto_mb has made is wrong")
        signatures = self._signed.raw
        return [signatures[start : start + self._size] for start in range(0, used, self._size)]


def multibuffer(key: SigningKey) -> MultiBuffer | None:
    """Return what signs eight at a time with a key; None where there is no library for it, or it is no faster here.

    That is found out by signing: 4 ms with 2048 bits, 25 with 4096. Raises MultiBufferError if it does not sign as OpenSSL does.
    """
    library = find_library()
    if library is None or not takes(key):
        return None
    found = MultiBuffer(library, key)
    texts = [bytes([number]) for number in range(LANES)]
    one_by_one, expected = _timed(lambda: [key.sign(text) for text in texts])
    tries = [_timed(lambda: found.sign(texts)) for _ in range(_TRIES)]
    if any(signatures != expected for _, signatures in tries):
        raise MultiBufferError("crypto_mb does not sign as OpenSSL does")
    found.fewest = max(2, ceil(LANES * min(seconds for seconds, _ in tries) / one_by_one))
    return found if found.fewest <= LANES else None


def takes(key: SigningKey) -> bool:
    """Tell whether a key has the form that the library takes: that of every key that a common tool makes."""
    bits, numbers = key.public.bits, key.numbers()
    has_usual_primes = all(prime.bit_length() == bits // 2 for prime in (numbers.p, numbers.q))
    return bits in _SIZES and numbers.public_numbers.e == _EXPONENT and has_usual_primes


def find_library() -> ctypes.CDLL | None:
    """Return the library if there is one that runs on this processor: of the system, or of the Python environment."""
    for library in _libraries():
        with suppress(AttributeError):  # another one of that name
            _declare(library)
            if library.mbx_is_crypto_mb_applicable(library.mbx_get_cpu_features()):
                return library
    return None


def _libraries() -> Iterator[ctypes.CDLL]:
    for name in NAMES:
        with suppress(OSError):
            yield ctypes.CDLL(name)
    for name in NAMES:
        if (_FOLDER / name).exists():
            with suppress(OSError):
                for needed in (*_RUNTIME, name):
                    if (file := _FOLDER / needed).exists():
                        library = ctypes.CDLL(str(file))
                yield library


def _declare(library: ctypes.CDLL) -> None:
    """Tell ctypes of the functions that are called (crypto_mb/rsa.h and cpu_features.h). Raises AttributeError if one is not there."""
    library.mbx_get_cpu_features.restype = c_uint64
    library.mbx_is_crypto_mb_applicable.argtypes = [c_uint64]
    for method in (library.mbx_RSA_private_crt_Method, library.mbx_RSA_pub65537_Method):
        method.argtypes, method.restype = [c_int], c_void_p
    library.mbx_RSA_Method_BufSize.argtypes = [c_void_p]
    for function, numbers in ((library.mbx_rsa_private_crt_mb8, 5), (library.mbx_rsa_public_mb8, 1)):
        function.argtypes = [*[_Pointers] * (2 + numbers), c_int, c_void_p, c_char_p]
        function.restype = c_uint32


def _timed(sign: Callable[[], list[bytes]]) -> tuple[float, list[bytes]]:
    """Return for how many seconds of the processor it signs, and what."""
    begun = thread_time()
    signatures = sign()
    return thread_time() - begun, signatures


def _number(value: int, size: int) -> "ctypes.Array[c_char]":
    return (c_char * size).from_buffer_copy(value.to_bytes(size, "little"))


def _each(buffer: "ctypes.Array[c_char]", size: int) -> "ctypes.Array[c_void_p]":
    """Return the addresses of eight values of that size."""
    return _Pointers(*(ctypes.addressof(buffer) + lane * size for lane in range(LANES)))


def _same(number: "ctypes.Array[c_char]") -> "ctypes.Array[c_void_p]":
    """Return eight times the address of one number."""
    return _Pointers(*[ctypes.addressof(number)] * LANES)
