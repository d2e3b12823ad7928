"""Reading keys in the forms in which people keep them, and signing and verifying with them."""

import hashlib
from base64 import b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.alipayplus.keys import (
    KeyFormatError,
    KeyRing,
    SigningKey,
    VerificationKey,
    generate_private_key,
    load_private_key,
    load_public_key,
    private_key_bits,
    private_pem,
    public_pem,
)
from gateway.alipayplus.signature import SignatureError, format_signature, parse_signature

Pair = tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]
LOCK = BestAvailableEncryption(b"open sesame")


def pem(key: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8, lock: Any = None) -> bytes:
    return key.private_bytes(Encoding.PEM, form, lock or NoEncryption())


@pytest.fixture(scope="session")
def small() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("lock", [None, LOCK])
def test_private_keys_that_are_read(rsa_keys: Pair, form: PrivateFormat, lock: Any) -> None:
    key = load_private_key(pem(rsa_keys[0], form, lock), "open sesame" if lock else None, "3")
    assert key.version == "3"
    assert key.public == VerificationKey.of(rsa_keys[0].public_key())


@pytest.mark.parametrize(("bits", "password"), [(2048, None), (2048, "open sesame"), (3072, None)])
def test_the_size_of_a_private_key_is_told_without_checking_it_again(bits: int, password: str | None) -> None:
    assert private_key_bits(private_pem(generate_private_key(bits), password), password) == bits


def test_E2_a_key_whose_numbers_do_not_fit_is_refused_unless_it_was_checked_before(rsa_keys: Pair) -> None:
    numbers = rsa_keys[0].private_numbers()
    wrong = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d + 2, numbers.dmp1, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    with pytest.raises(KeyFormatError):
        load_private_key(pem(wrong), None, "1")
    assert load_private_key(pem(wrong), None, "1", is_checked=True).public.bits == 2048


def test_a_private_key_may_stand_beside_its_public_half(rsa_keys: Pair) -> None:
    for content in (pem(rsa_keys[0]) + public_pem(rsa_keys[0]), public_pem(rsa_keys[0]) + pem(rsa_keys[0])):
        assert load_private_key(content, None, "1").public == VerificationKey.of(rsa_keys[0].public_key())


def test_E2_private_keys_that_are_refused_each_say_why(rsa_keys: Pair, small: rsa.RSAPrivateKey) -> None:
    whole = pem(rsa_keys[0])
    damaged = whole[:200] + whole[260:]
    mate = public_pem(rsa_keys[0])
    bare = b64encode(rsa_keys[0].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    for content, password, says in (
        (pem(rsa_keys[0], lock=LOCK), None, "encrypted and no password"),
        (pem(rsa_keys[0], lock=LOCK), "", "password is wrong"),
        (pem(rsa_keys[0], lock=LOCK), "wrong", "password is wrong"),
        (pem(rsa_keys[0], PrivateFormat.TraditionalOpenSSL, LOCK), None, "encrypted and no password"),
        (pem(rsa_keys[0], PrivateFormat.TraditionalOpenSSL, LOCK), "wrong", "password is wrong"),
        (whole, "open sesame", "not encrypted"),
        (pem(small), None, "1024 bits"),
        (pem(ec.generate_private_key(ec.SECP256R1())), None, "not an RSA key"),
        (pem(ed25519.Ed25519PrivateKey.generate()), None, "not an RSA key"),
        (mate, None, "a public key where a private key belongs"),
        (
            b64encode(VerificationKey.of(rsa_keys[0].public_key()).key.public_bytes(Encoding.DER, PublicFormat.PKCS1)),
            None,
            "a public key where",
        ),
        (bare, None, "without its PEM lines"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None, "a certificate"),
        (damaged, None, "damaged"),
        (whole + pem(rsa_keys[1]), None, "several keys in one file"),
        (pem(rsa_keys[0], PrivateFormat.TraditionalOpenSSL) + b"\n" + pem(rsa_keys[1], lock=LOCK), None, "several keys in one file"),
        (b"", None, "not a private key"),
        (b"\xff\x00\x80", None, "not a private key"),
    ):
        with pytest.raises(KeyFormatError, match=says) as caught:
            load_private_key(content, password, "1")
        assert caught.value.__cause__ is None
        assert not any(line and line.decode("latin-1") in str(caught.value) for line in content.splitlines() if len(line) > 30)


def test_public_keys_that_are_read(rsa_keys: Pair) -> None:
    public = rsa_keys[1].public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bare = b64encode(der)
    wrapped = b"\r\n".join(bare[at : at + 64] for at in range(0, len(bare), 64))
    expected = hashlib.sha256(der).hexdigest()
    for content in (
        public_pem(rsa_keys[1]),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        bare,
        bare + b"\n",
        wrapped,
        b"Alipay+ sandbox\n" + public_pem(rsa_keys[1]),
    ):
        assert load_public_key(content).fingerprint == expected


def test_E2_public_keys_that_are_refused_each_say_why(rsa_keys: Pair, small: rsa.RSAPrivateKey) -> None:
    bare_private = b64encode(rsa_keys[0].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    bare_locked = b64encode(rsa_keys[0].private_bytes(Encoding.DER, PrivateFormat.PKCS8, LOCK))
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content, says in (
        (pem(rsa_keys[0]), "a private key where a public key belongs"),
        (pem(rsa_keys[0], PrivateFormat.TraditionalOpenSSL), "a private key where a public key belongs"),
        (bare_private, "a private key where a public key belongs"),
        (bare_locked, "a private key where a public key belongs"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate"),
        (public_pem(small), "1024 bits"),
        (public_pem(rsa_keys[1]) + public_pem(rsa_keys[0]), "several keys in one file"),
        (elliptic, "not an RSA key"),
        (b"", "not a public key"),
        (b"\xff\x00\x80", "not a public key"),
        (b"AAAA", "not a public key"),
        (public_pem(rsa_keys[0])[:-80], "not a public key"),
    ):
        with pytest.raises(KeyFormatError, match=says) as caught:
            load_public_key(content)
        assert caught.value.__cause__ is None


def test_a_key_signs_what_its_mate_verifies(ours: SigningKey, theirs: SigningKey) -> None:
    signature = ours.sign(b"text")
    ours.public.verify(b"text", signature)
    for key, data, given in (
        (theirs.public, b"text", signature),
        (ours.public, b"Text", signature),
        (ours.public, b"text", signature[:-1]),
        (ours.public, b"text", signature + b"\0"),
        (ours.public, b"text", b""),
    ):
        with pytest.raises(SignatureError, match="the signature is wrong"):
            key.verify(data, given)


@pytest.mark.parametrize(
    ("scheme", "algorithm"),
    [
        pytest.param(padding.PKCS1v15(), SHA1(), id="C9-SHA-1"),
        pytest.param(padding.PKCS1v15(), SHA512(), id="C9-SHA-512"),
        pytest.param(padding.PSS(padding.MGF1(SHA256()), 32), SHA256(), id="C9-PSS"),
    ],
)
def test_C9_other_hashes_and_paddings_are_refused(rsa_keys: Pair, scheme: Any, algorithm: HashAlgorithm) -> None:
    signature = rsa_keys[0].sign(b"text", scheme, algorithm)
    with pytest.raises(SignatureError):
        VerificationKey.of(rsa_keys[0].public_key()).verify(b"text", signature)


def test_G9_no_byte_of_a_key_is_in_a_repr(rsa_keys: Pair, ring: KeyRing) -> None:
    shown = repr(ring) + str(ring) + repr(ring.signing) + str(ring.signing)
    numbers = rsa_keys[0].private_numbers()
    for secret in (numbers.d, numbers.p, numbers.q):
        assert str(secret) not in shown
        assert f"{secret:x}" not in shown
    assert "RSAPrivateKey" not in shown


def test_generated_keys_have_the_asked_size_and_can_be_read_again() -> None:
    key = generate_private_key(3072)
    assert load_private_key(private_pem(key), None, "1").public.bits == 3072
    assert load_public_key(public_pem(key)) == VerificationKey.of(key.public_key())
    assert load_public_key(VerificationKey.of(key.public_key()).portal_text().encode()) == VerificationKey.of(key.public_key())


def test_the_portal_takes_one_line_without_armour(ours: SigningKey) -> None:
    text = ours.public.portal_text()
    assert text.startswith("MIIBIjAN")
    assert "\n" not in text
    assert "-" not in text


def test_the_ring_signs_under_the_version_of_its_key(ring: KeyRing, their_ring: KeyRing) -> None:
    header = ring.sign("/p", "T", b"body")
    assert parse_signature(header).key_version == "1"
    their_ring.verify("/p", "T", b"body", header)


@pytest.mark.parametrize(
    ("uri", "time", "body"),
    [
        pytest.param("/q", "T", b"body", id="C9-path"),
        pytest.param("/p", "t", b"body", id="C9-time"),
        pytest.param("/p", "T", b"bodY", id="C9-body"),
        pytest.param("/p", "T", b"body\n", id="C9-final-line-feed"),
    ],
)
def test_C9_any_one_wrong_input_is_noticed(ring: KeyRing, their_ring: KeyRing, uri: str, time: str, body: bytes) -> None:
    with pytest.raises(SignatureError):
        ring.verify(uri, time, body, their_ring.sign("/p", "T", b"body"))


def test_C9_a_signature_for_another_client_is_noticed(ring: KeyRing, theirs: SigningKey) -> None:
    with pytest.raises(SignatureError):
        ring.verify("/p", "T", b"body", KeyRing("T_2", theirs, {}).sign("/p", "T", b"body"))


def test_C9_an_unknown_key_version_is_refused(ring: KeyRing, theirs: SigningKey) -> None:
    signature = theirs.sign(b"POST /p\nT_000000000000000001.T.body")
    ring.verify("/p", "T", b"body", format_signature(signature, "7"))
    with pytest.raises(SignatureError, match="no public key is configured"):
        ring.verify("/p", "T", b"body", format_signature(signature, "8"))


def test_the_star_stands_for_every_version_not_listed(ours: SigningKey, theirs: SigningKey) -> None:
    ring = KeyRing("C", ours, {"7": ours.public, "*": theirs.public})
    signature = theirs.sign(b"POST /p\nC.T.body")
    ring.verify("/p", "T", b"body", format_signature(signature, "8"))
    with pytest.raises(SignatureError):  # listed, so the star is not asked
        ring.verify("/p", "T", b"body", format_signature(signature, "7"))
