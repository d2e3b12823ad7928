"""Which mistake explains a signature: each likely one, made here by hand and found there."""

import hashlib
import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any, Final
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256, SHA512

from gateway.alipayplus.diagnose import diagnose, signature_text
from gateway.alipayplus.keys import SigningKey
from gateway.alipayplus.mistakes import Text
from gateway.alipayplus.signature import format_signature

URI: Final = "/aps/api/v1/mobile/sdkProxy"
CLIENT: Final = "T_0001a"
TIME: Final = "2019-05-28T12:12:12+08:00"
VALUE: Final = {"result": "S/1", "b": ["客", {"z": 1, "a": None}]}
BODY: Final = json.dumps(VALUE, ensure_ascii=False, separators=(",", ": ")).encode()
TEXT: Final = Text(URI, CLIENT, TIME, BODY)
LINES: Final = b'{\n"a": 1\n}'


def signed(body: bytes = BODY, line: str = f"POST {URI}", end: str = "\n", client: str = f"{CLIENT}.", time: str = f"{TIME}.") -> bytes:
    return f"{line}{end}{client}{time}".encode() + body


def dumped(**options: Any) -> bytes:
    return json.dumps(VALUE, **options).encode()


SINGLE: Final = [
    pytest.param(signed(BODY + b"\n"), "a final line feed is added", id="final-newline-added"),
    pytest.param(signed(BODY + b"\r\n"), "a final CR LF is added", id="final-crlf-added"),
    pytest.param(signed(b"\xef\xbb\xbf" + BODY), "byte order mark is added", id="bom"),
    pytest.param(signed(b""), "the body is left out", id="no-body"),
    pytest.param(signed(dumped(separators=(",", ":"), ensure_ascii=False)), "serialised anew: compact", id="compact"),
    pytest.param(signed(dumped(separators=(",", ":"))), "compact, non-ASCII escaped", id="compact-ascii"),
    pytest.param(signed(dumped()), "with spaces after , and :, non-ASCII escaped", id="python-default"),
    pytest.param(signed(dumped(sort_keys=True, separators=(",", ":"), ensure_ascii=False)), "compact, keys sorted", id="sorted"),
    pytest.param(signed(dumped(separators=(",", ":")).replace(b"/", b"\\/")), "non-ASCII escaped, slashes escaped", id="php-default"),
    pytest.param(signed(dumped(indent=2, ensure_ascii=False)), "indented by 2", id="indented"),
    pytest.param(signed(BODY.decode().encode("gbk")), "the body is in gbk", id="gbk"),
    pytest.param(signed(time="2019-05-28T12:12:12.000+08:00."), "with milliseconds", id="time-milliseconds"),
    pytest.param(signed(time="2019-05-28T12:12:12+0800."), "without the offset's colon", id="time-no-colon"),
    pytest.param(signed(time="2019-05-28 12:12:12."), "without T and offset", id="time-plain"),
    pytest.param(signed(time="2019-05-28T04:12:12Z."), "in UTC, with Z", id="time-z"),
    pytest.param(signed(time="1559016732000."), "in milliseconds since 1970", id="time-epoch-ms"),
    pytest.param(signed(time="1559016732."), "in seconds since 1970", id="time-epoch"),
    pytest.param(signed(time="2019-05-28T09:42:12+05:30."), "with another offset: 2019-05-28T09:42:12+05:30", id="time-india"),
    pytest.param(signed(time="2019-05-28T12:12:12+07:00."), "another offset at the same hour", id="time-wrong-label"),
    pytest.param(signed(time="2019-05-28T12:12:13+08:00."), "taken at another moment (+1 s)", id="time-taken-twice"),
    pytest.param(signed(time="."), "the time is missing", id="time-missing"),
    pytest.param(signed(line=f"POST {URI}/"), "a trailing slash is added", id="path-slash"),
    pytest.param(signed(line="POST aps/api/v1/mobile/sdkProxy"), "the leading slash is cut", id="path-no-slash"),
    pytest.param(signed(line=f"POST https://open-sea.alipay.com{URI}"), "the whole URL is signed", id="full-url"),
    pytest.param(signed(line="POST /aps/api/v2/mobile/sdkProxy"), "the version v2, not v1", id="path-version"),
    pytest.param(signed(client=""), "the client id is missing", id="client-missing"),
    pytest.param(signed(client="t_0001a."), "in lower case", id="client-lower"),
    pytest.param(signed(client=f"{CLIENT} ."), "with a space after it", id="client-space"),
    pytest.param(signed(line=f"GET {URI}"), "the method is GET", id="method-get"),
    pytest.param(signed(line=f"post {URI}"), "the method is post", id="method-lower"),
    pytest.param(signed(line=URI), "the method is left out", id="method-missing"),
    pytest.param(signed(end="\r\n"), "CR LF ends the first line", id="crlf-separator"),
    pytest.param(signed(end="\\n"), "backslash and n", id="literal-backslash-n"),
    pytest.param(signed(end=""), "nothing ends the first line", id="no-separator"),
    pytest.param(signed(client=CLIENT, time=TIME), "the dots are left out", id="no-dots"),
]


@pytest.mark.parametrize(("data", "says"), SINGLE)
def test_a_single_mistake_is_named(theirs: SigningKey, data: bytes, says: str) -> None:
    found = diagnose(TEXT, format_signature(theirs.sign(data), "7"), theirs.public)
    assert found.mistakes is not None
    assert len(found.mistakes) == 1
    assert says in found.mistakes[0]


@pytest.mark.parametrize(
    ("given", "body", "says"),
    [
        pytest.param(LINES + b"\n", LINES, "a final line feed is cut", id="final-newline-cut"),
        pytest.param(LINES + b"\r\n", LINES, "a final CR LF is cut", id="final-crlf-cut"),
        pytest.param(LINES, LINES.replace(b"\n", b"\r\n"), "LF are CR LF", id="crlf"),
        pytest.param(LINES.replace(b"\n", b"\r\n"), LINES, "CR LF are LF", id="lf"),
        pytest.param(b"\xef\xbb\xbf{}", b"{}", "byte order mark is cut", id="bom-cut"),
        pytest.param(b" \n {} \n\n", b"{}", "white space", id="stripped"),
        pytest.param(b'{"a": 1,\n"b": "\xc3\xa4"}', b'{"a":1,"b":"\xc3\xa4"}', "compact", id="compact"),
    ],
)
def test_a_mistake_in_what_is_given_is_named(theirs: SigningKey, given: bytes, body: bytes, says: str) -> None:
    found = diagnose(Text(URI, CLIENT, TIME, given), format_signature(theirs.sign(signed(body)), "7"), theirs.public)
    assert found.mistakes is not None
    assert len(found.mistakes) == 1
    assert says in found.mistakes[0]


@pytest.mark.parametrize(
    ("given", "line", "says"),
    [
        pytest.param("/a/b?c=d", "POST /a/b", "the query is left out", id="query"),
        pytest.param("/a/b/?c=d", "POST /a/b?c=d", "a trailing slash is cut", id="slash"),
        pytest.param("https://host.example/a/b?c=d", "POST /a/b?c=d", "the path alone", id="full-url-given"),
        pytest.param("/a%20b", "POST /a b", "percent escapes are decoded", id="decoded"),
        pytest.param("/aps/api/v1/x", "POST /aps/sandbox/api/v1/x", "sandbox", id="sandbox"),
    ],
)
def test_a_mistake_in_the_path_is_named(theirs: SigningKey, given: str, line: str, says: str) -> None:
    found = diagnose(Text(given, CLIENT, TIME, BODY), format_signature(theirs.sign(signed(line=line)), "7"), theirs.public)
    assert found.mistakes is not None
    assert len(found.mistakes) == 1
    assert says in found.mistakes[0]


@pytest.mark.parametrize(
    ("scheme", "algorithm", "says"),
    [
        pytest.param(padding.PKCS1v15(), SHA1(), "the hash is SHA1", id="sha1"),
        pytest.param(padding.PKCS1v15(), SHA512(), "the hash is SHA512", id="sha512"),
        pytest.param(padding.PKCS1v15(), MD5(), "the hash is MD5", id="md5"),
        pytest.param(padding.PSS(padding.MGF1(SHA256()), 32), SHA256(), "PSS", id="pss"),
        pytest.param(padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH), SHA256(), "PSS", id="pss-longest-salt"),
    ],
)
def test_another_hash_or_padding_is_named(
    rsa_keys: tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey], theirs: SigningKey, scheme: Any, algorithm: Any, says: str
) -> None:
    found = diagnose(TEXT, format_signature(rsa_keys[1].sign(signed(), scheme, algorithm), "7"), theirs.public)
    assert found.mistakes is not None
    assert len(found.mistakes) == 1
    assert says in found.mistakes[0]


@pytest.mark.parametrize("twice", [hashlib.sha256(signed()).digest(), hashlib.sha256(signed()).hexdigest().encode()])
def test_a_text_that_is_hashed_twice_is_named(theirs: SigningKey, twice: bytes) -> None:
    found = diagnose(TEXT, format_signature(theirs.sign(twice), "7"), theirs.public)
    assert found.mistakes == ("the text is hashed twice",)


def test_our_own_key_instead_of_theirs_is_named(ours: SigningKey, theirs: SigningKey) -> None:
    header = format_signature(ours.sign(signed()), "7")
    assert diagnose(TEXT, header, theirs.public, ours.public).mistakes == ("it is signed with our own key, not with theirs",)
    without = diagnose(TEXT, header, theirs.public)
    assert without.mistakes is None
    assert any("was not made" in note for note in without.notes)


def test_ways_to_damage_a_signature_are_named(theirs: SigningKey) -> None:
    # A signature with a + in it, for the sake of the space.
    time = next(time for time in map(str, range(100)) if b"+" in b64encode(theirs.sign(signed(time=f"{time}."))))
    text = Text(URI, CLIENT, time, BODY)
    raw = theirs.sign(signed(time=f"{time}."))
    plain = b64encode(raw).decode()
    for damaged, says in (
        (urlsafe_b64encode(raw).decode(), "URL-safe"),
        (urlsafe_b64encode(raw).decode().rstrip("="), "URL-safe"),
        (plain.replace("+", " "), "decoded as a space"),
        (quote(quote(plain, safe=""), safe=""), "percent-encoded twice"),
        ("\n".join(plain[at : at + 76] for at in range(0, len(plain), 76)), "broken into lines"),
        (plain.rstrip("="), "padding is cut"),
        (raw.hex(), "hexadecimal"),
    ):
        for given in (damaged, f"algorithm=RSA256,keyVersion=1,signature={damaged}"):
            found = diagnose(text, given, theirs.public)
            assert found.mistakes is not None, says
            assert len(found.mistakes) == 1
            assert says in found.mistakes[0]


def test_pairs_are_found_when_no_single_mistake_explains_it(ours: SigningKey, theirs: SigningKey) -> None:
    compact = dumped(separators=(",", ":"), ensure_ascii=False)
    for key, data, says in (
        (theirs, signed(compact + b"\n"), ("serialised anew: compact", "a final line feed is added")),
        (theirs, signed(compact, client="t_0001a."), ("serialised anew: compact", "in lower case")),
        (theirs, signed(line=f"POST {URI}/", time="1559016732000."), ("milliseconds since 1970", "a trailing slash")),
        (ours, signed(BODY + b"\n"), ("our own key", "a final line feed")),
    ):
        found = diagnose(TEXT, format_signature(key.sign(data), "7"), theirs.public, ours.public)
        assert found.mistakes is not None, says
        assert len(found.mistakes) == 2
        assert all(any(word in mistake for mistake in found.mistakes) for word in says)


def test_a_signature_that_is_right_has_no_mistakes(theirs: SigningKey) -> None:
    assert diagnose(TEXT, format_signature(theirs.sign(signed()), "7").replace("RSA256", "RSA1"), theirs.public).mistakes == ()


def test_when_nothing_explains_it_what_is_certain_is_said(theirs: SigningKey) -> None:
    found = diagnose(TEXT, format_signature(theirs.sign(b"something else"), "7"), theirs.public)
    assert found.mistakes is None
    assert any(hashlib.sha256(b"something else").hexdigest() in note for note in found.notes)
    assert any(hashlib.sha256(signed()).hexdigest() in note for note in found.notes)


@pytest.mark.parametrize("given", ["", "nonsense", "algorithm=RSA256,keyVersion=1,signature=", "=" * 400, "%", "AAAA", "A" * 344, "\u20ac"])
def test_any_text_can_be_diagnosed(theirs: SigningKey, given: str) -> None:
    assert diagnose(TEXT, given, theirs.public).mistakes is None


def test_a_large_body_is_tried_within_a_bound(theirs: SigningKey) -> None:
    body = b'{"a":"' + b"x" * (9 << 20) + b'"}'
    found = diagnose(Text(URI, CLIENT, TIME, body), format_signature(theirs.sign(b"something else"), "7"), theirs.public)
    assert found.mistakes is None
    assert "too large to try everything" in found.notes[-1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("algorithm=RSA256,keyVersion=1,signature=AB%3D", "AB%3D"),
        ("signature=AB==, keyVersion=1", "AB=="),
        ("Signature: algorithm=RSA256, signature=AB==", "AB=="),
        (" AB== ", "AB=="),
    ],
)
def test_the_signature_is_taken_out_of_what_is_given(given: str, text: str) -> None:
    assert signature_text(given) == text
