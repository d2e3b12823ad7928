"""The key files of a configuration: every fault of faults E2, each at its own key."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from gateway.alipayplus.keyring import MAX_FILE, check_keys, load_key_ring
from gateway.alipayplus.keys import KeyFormatError, SigningKey, VerificationKey, private_pem, public_pem
from gateway.config import Alipayplus, Config, CustomerId, Fault, Forward, PrivateKey, Secret, Session, Signing, Verification

Pair = tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]
FORWARD = Forward(url="http://127.0.0.1:1/session", customer_id=CustomerId(header="X-Customer-Id"))
OURS = ("alipayplus", "signing", "private_keys")
THEIRS = ("alipayplus", "verification", "public_keys")


def configured(private: Mapping[str, PrivateKey], public: Mapping[str, Path], key_version: str = "1") -> Config:
    alipayplus = Alipayplus(
        client_id="T_1",
        host=("https://alipayplus.example",),
        signing=Signing(key_version=key_version, private_keys=private),
        verification=Verification(public_keys=public),
    )
    return Config(session=Session(forward=FORWARD), alipayplus=alipayplus)


@pytest.fixture
def files(tmp_path: Path, rsa_keys: Pair) -> dict[str, Path]:
    """Key files, good and bad, by name."""
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    elliptic = ec.generate_private_key(ec.SECP256R1())
    locked = rsa_keys[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    contents = {
        "ours": private_pem(rsa_keys[0]),
        "our public": public_pem(rsa_keys[0]),
        "our portal": VerificationKey.of(rsa_keys[0].public_key()).portal_text().encode(),
        "next": private_pem(rsa_keys[1]),
        "next public": public_pem(rsa_keys[1]),
        "locked": locked,
        "small": private_pem(small),
        "small public": public_pem(small),
        "elliptic": elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "empty": b"",
        "large": b"x" * (MAX_FILE + 1),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def private_faults(file: Path, password: str | None = None, public: Path | None = None) -> list[Fault]:
    key = PrivateKey(file=file, password=Secret(password) if password is not None else None)
    return [fault for fault in check_keys(configured({"1": key}, {"1": public or file.parent / "next public"})) if fault.path[:3] == OURS]


def public_faults(file: Path) -> list[Fault]:
    return list(check_keys(configured({"1": PrivateKey(file=file.parent / "ours")}, {"7": file})))


def test_good_keys_have_no_faults_and_make_a_ring(files: dict[str, Path], ours: SigningKey, theirs: SigningKey) -> None:
    private = {"1": PrivateKey(file=files["ours"]), "2": PrivateKey(file=files["locked"], password=Secret("open sesame"))}
    config = configured(private, {"7": files["next public"], "*": files["next public"]})
    assert list(check_keys(config)) == []
    ring = load_key_ring(config.alipayplus)
    assert (ring.client_id, ring.signing) == ("T_1", ours)
    assert ring.verification == {"7": theirs.public, "*": theirs.public}


def test_the_ring_signs_with_the_key_that_key_version_names(files: dict[str, Path], theirs: SigningKey) -> None:
    private = {"1": PrivateKey(file=files["ours"]), "b": PrivateKey(file=files["next"])}
    ring = load_key_ring(configured(private, {"7": files["our public"]}, key_version="b").alipayplus)
    assert (ring.signing.version, ring.signing.public) == ("b", theirs.public)


@pytest.mark.parametrize(
    ("name", "password", "says"),
    [
        pytest.param("missing", None, "No such file", id="E2-missing"),
        pytest.param("", None, "not a regular file", id="E2-a-directory"),
        pytest.param("a\0b", None, "not the path of a file", id="E2-not-a-path"),
        pytest.param("empty", None, "not a private key", id="E2-empty"),
        pytest.param("large", None, "too large", id="E2-too-large"),
        pytest.param("locked", None, "encrypted and no password", id="E2-encrypted-without-password"),
        pytest.param("locked", "wrong", "password is wrong", id="E2-wrong-password"),
        pytest.param("ours", "open sesame", "not encrypted", id="E2-password-for-nothing"),
        pytest.param("small", None, "1024 bits", id="E2-below-2048-bits"),
        pytest.param("elliptic", None, "not an RSA key", id="E2-not-RSA"),
        pytest.param("our public", None, "a public key where a private key belongs", id="E2-public-for-private"),
        pytest.param("our portal", None, "a public key where a private key belongs", id="E2-portal-form-for-private"),
    ],
)
def test_E2_a_private_key_that_cannot_be_used_is_a_fault_at_its_key(
    files: dict[str, Path], name: str, password: str | None, says: str
) -> None:
    faults = private_faults(files["ours"].parent / name, password)
    assert [fault.path for fault in faults] == [(*OURS, "1")]
    assert says in faults[0].message
    assert not faults[0].warning


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("missing", "No such file", id="E2-missing"),
        pytest.param("empty", "not a public key", id="E2-empty"),
        pytest.param("large", "too large", id="E2-too-large"),
        pytest.param("next", "a private key where a public key belongs", id="E2-private-for-public"),
        pytest.param("small public", "1024 bits", id="E2-below-2048-bits"),
        pytest.param("our public", "our own key (private key '1')", id="E2-our-own-key"),
        pytest.param("our portal", "our own key (private key '1')", id="E2-our-own-key-in-portal-form"),
    ],
)
def test_E2_a_public_key_that_cannot_be_used_is_a_fault_at_its_key(files: dict[str, Path], name: str, says: str) -> None:
    faults = public_faults(files["ours"].parent / name)
    assert [fault.path for fault in faults] == [(*THEIRS, "7")]
    assert says in faults[0].message
    assert not faults[0].warning


def test_E2_a_pipe_is_not_waited_for(files: dict[str, Path]) -> None:
    pipe = files["ours"].parent / "pipe"
    os.mkfifo(pipe)
    assert [fault.message for fault in public_faults(pipe)] == ["not a regular file"]


def test_E2_the_mate_of_any_of_our_keys_is_found_also_of_one_that_does_not_sign(files: dict[str, Path]) -> None:
    private = {"1": PrivateKey(file=files["ours"]), "2": PrivateKey(file=files["next"])}
    faults = list(check_keys(configured(private, {"*": files["next public"]})))
    assert [fault.path for fault in faults] == [(*THEIRS, "*")]
    assert "private key '2'" in faults[0].message


def test_E2_all_faults_are_found_at_once(files: dict[str, Path]) -> None:
    private = {"1": PrivateKey(file=files["small"]), "2": PrivateKey(file=files["locked"])}
    faults = list(check_keys(configured(private, {"1": files["empty"], "2": files["elliptic"]}, key_version="9")))
    assert [fault.path for fault in faults] == [(*OURS, "1"), (*OURS, "2"), (*THEIRS, "1"), (*THEIRS, "2")]


def test_E2_no_key_bytes_in_any_fault(files: dict[str, Path]) -> None:
    for file in files.values():
        lines = [line for line in file.read_bytes().splitlines() if len(line) > 20 and b"-----" not in line]
        for fault in (*private_faults(file), *public_faults(file)):
            assert not any(line.decode() in fault.message for line in lines)


def test_loading_raises_what_checking_finds(files: dict[str, Path]) -> None:
    with pytest.raises(KeyFormatError):
        load_key_ring(configured({"1": PrivateKey(file=files["small"])}, {"7": files["next public"]}).alipayplus)
    with pytest.raises(FileNotFoundError):
        load_key_ring(configured({"1": PrivateKey(file=files["ours"])}, {"7": files["ours"].parent / "missing"}).alipayplus)
