"""`gateway sign` and `gateway verify`, as they are used when debugging with a partner."""

import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

Command = Callable[..., Any]
TIME = "2019-05-28T12:12:12+08:00"
LINE = f"POST /aps/api/v1/mobile/sdkProxy\nT_1.{TIME}.".encode()


@pytest.fixture
def body(tmp_path: Path) -> Path:
    file = tmp_path / "body.json"
    file.write_bytes(b'{"a": "\xe2\x82\xac"}')
    return file


@pytest.fixture
def sign(command: Command, key_files: Path) -> Callable[..., Any]:
    return lambda body, *words: command(f"sign --client-id T_1 --time {TIME} --key", key_files / "private.pem", *words, body)


@pytest.fixture
def verify(command: Command, key_files: Path) -> Callable[..., Any]:
    def run(signature: str, body: Path, *words: object) -> Any:
        return command(f"verify --client-id T_1 --time {TIME} --key", key_files / "public.pem", "--signature", signature, *words, body)

    return run


def test_sign_prints_the_headers_value_and_nothing_else(openssl: str, sign: Any, body: Path, key_files: Path, tmp_path: Path) -> None:
    done = sign(body)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("algorithm=RSA256,keyVersion=1,signature=")
    (tmp_path / "signature").write_bytes(b64decode(unquote(done.out.strip().split("signature=")[1])))
    (tmp_path / "text").write_bytes(LINE + body.read_bytes())
    checked = subprocess.run(
        [openssl, "dgst", "-sha256", "-verify", key_files / "public.pem", "-signature", tmp_path / "signature", tmp_path / "text"],
        check=False,
        capture_output=True,
    )
    assert checked.stdout.strip() == b"Verified OK"


def test_sign_names_the_key_version_and_signs_the_uri(sign: Any, verify: Any, body: Path) -> None:
    done = sign(body, "--key-version", "b", "--uri", "/x?y")
    assert done.out.startswith("algorithm=RSA256,keyVersion=b,")
    assert verify(done.out.strip(), body, "--uri", "/x?y").code == 0
    assert verify(done.out.strip(), body).code == 1


def test_sign_shows_what_was_signed_on_demand(openssl: str, sign: Any, body: Path, tmp_path: Path) -> None:
    done = sign(body, "--verbose")
    assert (LINE + body.read_bytes()).decode() in done.err
    (tmp_path / "text").write_bytes(LINE + body.read_bytes())
    digest = subprocess.run([openssl, "dgst", "-sha256", "-r", tmp_path / "text"], check=True, capture_output=True, text=True).stdout
    assert digest.split()[0] in done.err
    assert done.out == sign(body).out


def test_sign_takes_an_encrypted_key(command: Command, body: Path, key_files: Path, tmp_path: Path, sign: Any) -> None:
    key = load_pem_private_key((key_files / "private.pem").read_bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    (tmp_path / "locked.pem").write_bytes(pem)
    (tmp_path / "password").write_text("open sesame\n")
    words = ("--key", tmp_path / "locked.pem", body)
    line = f"sign --client-id T_1 --time {TIME}"
    assert command(line, "--password-file", tmp_path / "password", *words).out == sign(body).out
    refused = command(line, *words)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"gateway: {tmp_path / 'locked.pem'}: the key is encrypted and no password is configured\n"


def test_verify_says_ok_for_a_whole_header_and_for_the_signature_alone(sign: Any, verify: Any, body: Path) -> None:
    header = sign(body).out.strip()
    encoded = header.split("signature=")[1]
    for given in (header, f"Signature: {header}", header.replace(",", ", "), encoded, unquote(encoded)):
        done = verify(given, body)
        assert (done.code, done.out, done.err) == (0, "OK\n", "")


def test_verify_takes_what_openssl_signed(openssl: str, verify: Any, body: Path, key_files: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(LINE + body.read_bytes())
    made = subprocess.run(
        [openssl, "dgst", "-sha256", "-sign", key_files / "private.pem", tmp_path / "text"], check=True, capture_output=True
    )
    assert verify(b64encode(made.stdout).decode(), body).code == 0
    assert verify(quote(b64encode(made.stdout).decode(), safe=""), body).code == 0


def test_verify_names_the_mistake(sign: Any, verify: Any, body: Path, tmp_path: Path) -> None:
    header = sign(body).out.strip()
    (tmp_path / "edited").write_bytes(body.read_bytes() + b"\n")
    done = verify(header, tmp_path / "edited")
    assert done.code == 1
    assert done.out.splitlines()[0] == "not verified: the signature is wrong"
    assert done.out.splitlines()[-2:] == ["this explains the signature (it verifies then):", "  a final line feed is cut from the body"]


def test_verify_names_two_mistakes(sign: Any, command: Command, body: Path, key_files: Path, tmp_path: Path) -> None:
    header = sign(body).out.strip()
    (tmp_path / "edited").write_bytes(body.read_bytes() + b"\n")
    words = ("--key", key_files / "public.pem", "--signature", header, tmp_path / "edited")
    done = command("verify --client-id T_1 --time 2019-05-28T04:12:12+00:00", *words)
    assert done.code == 1
    assert "a final line feed is cut" in done.out
    assert "with another offset: 2019-05-28T12:12:12+08:00" in done.out


@pytest.mark.parametrize("own", ["other.pem", "other-public.pem"])
def test_verify_notices_our_own_key(command: Command, verify: Any, body: Path, key_files: Path, own: str) -> None:
    header = command(f"sign --client-id T_1 --time {TIME} --key", key_files / "other.pem", body).out.strip()
    done = verify(header, body, "--own-key", key_files / own)
    assert done.code == 1
    assert done.out.splitlines()[-1] == "  it is signed with our own key, not with theirs"
    without = verify(header, body)
    assert without.code == 1
    assert "none of the likely mistakes explains it" in without.out


@pytest.mark.parametrize(
    "given", ["", "nonsense", "algorithm=RSA1,keyVersion=1,signature=AAAA", "algorithm=RSA256,keyVersion=1,signature="]
)
def test_verify_refuses_any_other_text(verify: Any, body: Path, given: str) -> None:
    done = verify(given, body)
    assert done.code == 1
    assert done.out.startswith("not verified: ")


def test_verify_says_so_when_only_the_header_is_wrong(sign: Any, verify: Any, body: Path) -> None:
    done = verify(sign(body).out.strip().replace("RSA256", "RSA512"), body)
    assert done.code == 1
    assert "the algorithm of the signature is not RSA256" in done.out
    assert "apart from that the signature is right" in done.out


def test_standard_input_is_read_byte_for_byte(key_files: Path, body: Path, sign: Any) -> None:
    header = sign(body).out.strip()
    words = ["verify", "--key", str(key_files / "public.pem"), "--signature", header, "--client-id", "T_1", "--time", TIME, "-"]
    done = subprocess.run([sys.executable, "-m", "gateway", *words], input=body.read_bytes(), check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"OK\n", b"")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sign --client-id T_1 --time T --key {keys}/missing.pem {body}", "missing.pem: No such file or directory"),
        ("sign --client-id T_1 --time T --key {keys}/private.pem {body}.missing", "body.json.missing: No such file or directory"),
        ("sign --client-id T_1 --time T --key {keys}/public.pem {body}", "public.pem: a public key where a private key belongs"),
        ("sign --client-id '' --time T --key {keys}/private.pem {body}", "--client-id is empty"),
        ("sign --client-id T_1 --time ' ' --key {keys}/private.pem {body}", "--time is empty"),
        ("sign --client-id T_1 --time T --uri '' --key {keys}/private.pem {body}", "--uri is empty"),
        ("sign --client-id T_1 --time T€ --key {keys}/private.pem {body}", "characters that no header can hold"),
        ("sign --client-id 'T\n1' --time T --key {keys}/private.pem {body}", "characters that no header can hold"),
        ("sign --client-id T_1 --time T --key-version a,b --key {keys}/private.pem {body}", "--key-version: not of the right form"),
        ("sign --client-id T_1 --time T --key-version 'a\n' --key {keys}/private.pem {body}", "--key-version: not of the right form"),
        ("sign --client-id T_1 --time T --key {keys} {body}", "Is a directory"),
        ("verify --client-id T_1 --time 'T\r' --signature A --key {keys}/public.pem {body}", "characters that no header can hold"),
        ("verify --client-id T_1 --time T --signature A\udcff --key {keys}/public.pem {body}", "--signature is not UTF-8"),
        ("verify --client-id T_1 --time T --signature A --key {keys}/private.pem {body}", "a private key where a public key belongs"),
        ("verify --client-id T_1 --time T --signature A --key {keys}/public.pem --own-key {body} {body}", "body.json: not a public key"),
    ],
)
def test_input_that_cannot_be_used_is_one_clear_line(command: Command, key_files: Path, body: Path, line: str, says: str) -> None:
    done = command(line.format(keys=key_files, body=body))
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.startswith("gateway: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("line", ["sign", "verify", "sign --key x --client-id y --time z", "verify --key x --client-id y --time z body"])
def test_wrong_usage_is_2(command: Command, line: str) -> None:
    assert command(line).code == 2
