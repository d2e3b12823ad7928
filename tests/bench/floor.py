"""The floor: what RSA alone costs a request on this machine, one signature and one verification with 2048 bits.

Where the gateway makes signatures eight at a time, one costs an eighth of that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, thread_time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.alipayplus.keys import SigningKey
from gateway.alipayplus.multibuffer import LANES, multibuffer
from tests.bench.machine import on_core


@dataclass(frozen=True, slots=True)
class Floor:
    """CPU microseconds of one signature and of one verification."""

    sign: float
    verify: float

    @property
    def total(self) -> float:
        """Both together: what no gateway in front of Alipay+ can do without."""
        return self.sign + self.verify


class RsaFloor:
    """Measures the floor again and again: machines drift, and only figures of the same moment compare."""

    def __init__(self, core: int, signed: bytes, answered: bytes) -> None:
        self._core = core
        self._signed, self._answered = signed, answered
        self._key = rsa.generate_private_key(65537, 2048)
        self._several = multibuffer(SigningKey.of(self._key, "1"))
        self._public = self._key.public_key()
        self._signature = self._key.sign(answered, padding.PKCS1v15(), hashes.SHA256())

    def measure(self, seconds: float) -> Floor:
        """Sign and verify texts of the size of a request and an answer for so long, on the gateway's core."""
        with on_core(self._core):
            sign, verify = _microseconds(self._sign, seconds * 0.8), _microseconds(self._verify, seconds * 0.2)
        return Floor(sign / (LANES if self._several else 1), verify)

    def _sign(self) -> None:
        if self._several:
            self._several.sign([self._signed] * LANES)
        else:
            self._key.sign(self._signed, padding.PKCS1v15(), hashes.SHA256())

    def _verify(self) -> None:
        self._public.verify(self._signature, self._answered, padding.PKCS1v15(), hashes.SHA256())


def _microseconds(work: Callable[[], None], seconds: float) -> float:
    work()
    count, begun, ends = 0, thread_time(), monotonic() + seconds
    while monotonic() < ends:
        work()
        count += 1
    return (thread_time() - begun) / count * 1e6
