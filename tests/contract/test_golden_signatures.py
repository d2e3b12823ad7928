"""Signatures against the openssl command, in both directions: fixed ones, and ones made while the test runs (protocol section 3).

The fixed ones were made with `openssl dgst -sha256 -sign private.pem TEXT | openssl base64 -A`, the escapes written by sed.
"""

import hashlib
import json
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.alipayplus.keys import KeyRing, load_private_key, load_public_key
from gateway.alipayplus.signature import parse_signature, string_to_sign

URI = "/aps/api/v1/mobile/sdkProxy"


@pytest.fixture(scope="session")
def ring(golden: Path) -> KeyRing:
    signing = load_private_key((golden / "private.pem").read_bytes(), None, "1")
    return KeyRing("T_000000000000000001", signing, {"1": load_public_key((golden / "public.pem").read_bytes())})


@pytest.mark.parametrize("number", range(4))
def test_fixed_signatures_of_openssl_are_ours_byte_for_byte_and_verify(golden: Path, ring: KeyRing, number: int) -> None:
    vector = json.loads((golden / "vectors.json").read_bytes())[number]
    body = (golden / vector["body"]).read_bytes() if vector["body"] else b""
    text = string_to_sign(vector["uri"], vector["client_id"], vector["time"], body)
    assert hashlib.sha256(text).hexdigest() == vector["sha256"]
    partner = KeyRing(vector["client_id"], ring.signing, ring.verification)
    # PKCS#1 v1.5 has no randomness: there is one signature only.
    assert partner.sign(vector["uri"], vector["time"], body) == vector["header"]
    partner.verify(vector["uri"], vector["time"], body, vector["header"])


def test_there_are_no_more_fixed_signatures_than_the_tested_ones(golden: Path) -> None:
    assert len(json.loads((golden / "vectors.json").read_bytes())) == 4


BODIES = [b"", b"{}", b'{"a":"\xe2\x80\xa8 \xf0\x9f\x92\xb3"}\r\n', b"\x00\xff" * 1000, b"x" * (1 << 20)]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_what_openssl_signs_verifies(openssl: str, golden: Path, ring: KeyRing, tmp_path: Path, body: bytes) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"POST /aps/api/v1/mobile/sdkProxy\nT_000000000000000001.2019-05-28T12:12:12+08:00." + body)
    made = subprocess.run([openssl, "dgst", "-sha256", "-sign", golden / "private.pem", text], check=True, capture_output=True).stdout
    header = f"algorithm=RSA256,keyVersion=1,signature={quote(b64encode(made), safe='')}"
    ring.verify(URI, "2019-05-28T12:12:12+08:00", body, header)


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_what_is_signed_here_verifies_with_openssl(openssl: str, golden: Path, ring: KeyRing, tmp_path: Path, body: bytes) -> None:
    header = ring.sign(URI, "2019-05-28T12:12:12+08:00", body)
    text, signature = tmp_path / "text", tmp_path / "signature"
    text.write_bytes(b"POST /aps/api/v1/mobile/sdkProxy\nT_000000000000000001.2019-05-28T12:12:12+08:00." + body)
    signature.write_bytes(parse_signature(header).signature)
    done = subprocess.run(
        [openssl, "dgst", "-sha256", "-verify", golden / "public.pem", "-signature", signature, text], check=False, capture_output=True
    )
    assert done.stdout.strip() == b"Verified OK"


def test_the_fingerprint_is_the_one_that_openssl_and_sha256sum_give(openssl: str, golden: Path, ring: KeyRing) -> None:
    der = subprocess.run(
        [openssl, "pkey", "-pubin", "-in", golden / "public.pem", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert ring.verification["1"].fingerprint == hashlib.sha256(der).hexdigest()
    assert b64decode(ring.verification["1"].portal_text()) == der


KEY_FORMS = {
    "PKCS#8": ["pkey"],
    "PKCS#1": ["rsa", "-traditional"],
    "PKCS#8, AES": ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:open sesame"],
    "PKCS#1, AES": ["rsa", "-traditional", "-aes128", "-passout", "pass:open sesame"],
}


@pytest.mark.parametrize("form", KEY_FORMS)
def test_private_keys_as_openssl_writes_them_are_read(openssl: str, golden: Path, ring: KeyRing, form: str) -> None:
    command = [openssl, *KEY_FORMS[form], "-in", str(golden / "private.pem")]
    pem = subprocess.run(command, check=True, capture_output=True).stdout
    assert load_private_key(pem, "open sesame" if "AES" in form else None, "1").public == ring.signing.public


@pytest.mark.parametrize("form", [["-pubout"], ["-RSAPublicKey_out"]])
def test_public_keys_as_openssl_writes_them_are_read(openssl: str, golden: Path, ring: KeyRing, form: list[str]) -> None:
    pem = subprocess.run([openssl, "rsa", "-in", golden / "private.pem", *form], check=True, capture_output=True).stdout
    assert load_public_key(pem) == ring.signing.public
