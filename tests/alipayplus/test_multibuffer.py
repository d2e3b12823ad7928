"""Signatures eight at a time: by the library where the machine has it, and by one that a test plays where it is to fail."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.alipayplus import multibuffer as module
from gateway.alipayplus.keys import SigningKey, generate_private_key
from gateway.alipayplus.multibuffer import LANES, NAMES, MultiBuffer, MultiBufferError, find_library, multibuffer, takes

HAS_IFMA: Final = bool({"avx512ifma", "avx_ifma"} & set(Path("/proc/cpuinfo").read_text().split()))
TEXTS: Final = [b"", b"a", b"bc" * 300, *(b"%d" % number for number in range(LANES - 3))]

Pointers = Sequence[int]


class Played:
    """A library that computes with Python's numbers, as crypto_mb's header says; `fault` may change a signature on its way out."""

    _name = "/somewhere/libcrypto_mb.so.11"

    def __init__(self, *, fault: Callable[[int], int] = lambda signature: signature, status: int = 0) -> None:
        self.fault, self.status = fault, status

    def mbx_RSA_private_crt_Method(self, bits: int) -> int:
        return bits

    def mbx_RSA_pub65537_Method(self, bits: int) -> int:
        return bits

    def mbx_RSA_Method_BufSize(self, method: Any) -> int:
        return int(method.value)

    def mbx_rsa_private_crt_mb8(self, source: Pointers, target: Pointers, *others: Any) -> int:
        *parts, bits, _, _ = others
        for lane in range(LANES):
            m = read(source[lane], bits // 8, "big")
            p, q, dp, dq, iq = (read(part[lane], bits // 16, "little") for part in parts)
            of_q = pow(m, dq, q)
            write(target[lane], self.fault(of_q + q * ((pow(m, dp, p) - of_q) * iq % p)), bits // 8)
        return self.status

    def mbx_rsa_public_mb8(self, source: Pointers, target: Pointers, n: Pointers, bits: int, *_: Any) -> int:
        for lane in range(LANES):
            write(target[lane], pow(read(source[lane], bits // 8, "big"), 65537, read(n[lane], bits // 8, "little")), bits // 8)
        return 0


def read(address: int, size: int, order: Any) -> int:
    return int.from_bytes(ctypes.string_at(address, size), order)


def write(address: int, value: int, size: int) -> None:
    ctypes.memmove(address, value.to_bytes(size, "big"), size)


def played(key: SigningKey, **settings: Any) -> MultiBuffer:
    return MultiBuffer(Played(**settings), key)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=[2048, 3072, 4096])
def key(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.of(generate_private_key(request.param), "1")


@pytest.mark.parametrize("count", range(1, LANES + 1))
def test_it_signs_as_openssl_does_however_many_there_are(ours: SigningKey, count: int) -> None:
    assert played(ours).sign(TEXTS[:count]) == [ours.sign(text) for text in TEXTS[:count]]


def test_more_than_it_has_room_for_are_not_signed(ours: SigningKey) -> None:
    several = played(ours)
    with pytest.raises(ValueError):
        several.sign([b"text"] * (LANES + 1))
    assert several.sign(TEXTS) == [ours.sign(text) for text in TEXTS]


@pytest.mark.parametrize("wrong", [lambda signature: signature ^ 1, lambda signature: signature // 2, lambda _: 0])
def test_a_wrong_signature_is_seen_by_nobody(ours: SigningKey, wrong: Callable[[int], int]) -> None:
    lanes = iter(range(LANES))
    several = played(ours, fault=lambda signature: wrong(signature) if next(lanes) == 2 else signature)
    with pytest.raises(MultiBufferError, match="is wrong"):
        several.sign(TEXTS)


def test_what_the_library_says_it_cannot_sign_is_not_signed(ours: SigningKey) -> None:
    with pytest.raises(MultiBufferError, match="has not signed"):
        played(ours, status=1).sign(TEXTS)


def test_a_library_that_signs_otherwise_is_told(ours: SigningKey, theirs: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_library", Played)
    monkeypatch.setattr(MultiBuffer, "sign", lambda _, texts: [theirs.sign(text) for text in texts])
    with pytest.raises(MultiBufferError, match="as OpenSSL does"):
        multibuffer(ours)


def test_a_library_that_is_no_faster_is_not_used(ours: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_library", Played)  # Python's numbers take ten times as long
    assert multibuffer(ours) is None


def test_where_the_processor_can_the_library_is_there_and_signs_as_openssl_does(key: SigningKey) -> None:
    library = find_library()
    if not HAS_IFMA:
        assert library is None
        assert multibuffer(key) is None
        return
    assert library is not None
    several = MultiBuffer(library, key)
    for count in range(1, LANES + 1):
        assert several.sign(TEXTS[:count]) == [key.sign(text) for text in TEXTS[:count]]
    assert several.library in NAMES
    if key.public.bits == 2048:  # as others have it, too
        usual = multibuffer(key)
        assert usual is not None
        assert 2 <= usual.fewest <= LANES


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=LANES))
def test_every_text_gets_its_own_signature(usual_key: SigningKey, texts: list[bytes]) -> None:
    library: Any = find_library() or Played()
    for text, signature in zip(texts, MultiBuffer(library, usual_key).sign(texts), strict=True):
        usual_key.public.verify(text, signature)


@pytest.fixture(scope="module")
def usual_key() -> SigningKey:
    return SigningKey.of(generate_private_key(), "1")


def test_a_key_of_another_size_is_not_taken() -> None:
    assert not takes(SigningKey.of(generate_private_key(2304), "1"))


def test_a_key_with_another_exponent_is_not_taken() -> None:
    assert not takes(SigningKey.of(rsa.generate_private_key(3, 2048), "1"))


def test_a_key_whose_primes_are_not_of_one_size_is_not_taken() -> None:
    p, q = (generate_private_key(bits).private_numbers().p for bits in (2060, 2036))
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    key = SigningKey.of(numbers.private_key(), "1")
    assert key.public.bits == 2048
    assert not takes(key)


def test_where_there_is_no_library_nothing_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert find_library() is None
    for name in NAMES:
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    assert find_library() is None


FUNCTIONS: Final = (
    "mbx_get_cpu_features",
    "mbx_is_crypto_mb_applicable",
    "mbx_RSA_private_crt_Method",
    "mbx_RSA_pub65537_Method",
    "mbx_RSA_Method_BufSize",
    "mbx_rsa_private_crt_mb8",
    "mbx_rsa_public_mb8",
)


def test_the_first_library_that_has_the_functions_and_runs_here_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(*names: str, applicable: int) -> SimpleNamespace:
        found = SimpleNamespace(**{name: lambda *_: 0 for name in names})
        found.mbx_is_crypto_mb_applicable = lambda _: applicable
        return found

    lacking = library(*FUNCTIONS[:-1], applicable=1)
    foreign, good = (library(*FUNCTIONS, applicable=applicable) for applicable in (0, 1))
    monkeypatch.setattr(module, "_libraries", lambda: iter([lacking, foreign, good]))
    found: object = find_library()
    assert found is good
    monkeypatch.setattr(module, "_libraries", lambda: iter([lacking, foreign]))
    assert find_library() is None
