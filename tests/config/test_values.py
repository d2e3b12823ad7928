"""The written forms of durations, sizes, addresses; secrets that cannot be printed."""

import pickle
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Address, Duration, Secret, Size
from gateway.config.values import Masked, MaskedQuery


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("0s", 0.0), ("12s", 12.0), ("5m", 300.0), ("1h", 3600.0), ("007s", 7.0), ("1ms", 0.001)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "number"), [("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("0B", 0), ("16KiB", 16384)]
)
def test_sizes_are_bytes(text: str, number: int) -> None:
    assert Size.parse(text) == number


@given(st.integers(0, 10**9))
def test_a_duration_reads_as_it_was_written(milliseconds: int) -> None:
    duration = Duration(milliseconds / 1000)
    assert Duration.parse(str(duration)) == duration


@given(st.integers(0, 10**11))
def test_a_size_reads_as_it_was_written(number: int) -> None:
    assert Size.parse(str(Size(number))) == number


@given(st.integers(0, 10**9 - 1), st.sampled_from(["ms", "s", "m", "h"]))
def test_every_written_duration_survives(number: int, unit: str) -> None:
    duration = Duration.parse(f"{number}{unit}")
    assert float(str(duration).rstrip("mhs")) <= number or unit == "ms"
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("0", "write 0s"),
        ("10", "write 10s or 500ms"),
        ("1.5s", "write 1500ms"),
        ("0.5m", "write 30s"),
        ("10 s", "write 10s"),
        ("10sec", "write 10s"),
        ("2 minutes", "write 2m"),
        ("10S", "write 10s"),
        ("-5s", "such as 500ms, 12s, 5m or 1h"),
        ("1h30m", "such as 500ms, 12s, 5m or 1h"),
        ("", "such as 500ms, 12s, 5m or 1h"),
        ("٣s", "such as 500ms, 12s, 5m or 1h"),
        ("1e3s", "such as 500ms, 12s, 5m or 1h"),
        ("inf", "such as 500ms, 12s, 5m or 1h"),
        ("1s\n", "write 1s"),
    ],
)
def test_other_forms_of_durations_are_refused_with_the_right_one(text: str, right: str) -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        Duration.parse(text)
    assert str(caught.value).endswith(right)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("65536", "write 64KiB"),
        ("1000", "write 1000B"),
        ("64k", "write 64KiB"),
        ("64 KB", "write 64KiB"),
        ("1mib", "write 1MiB"),
        ("0.5MiB", "write 512KiB"),
        ("1.5B", "such as 512B, 64KiB or 1MiB"),
        ("1TiB", "such as 512B, 64KiB or 1MiB"),
        ("-1B", "such as 512B, 64KiB or 1MiB"),
    ],
)
def test_other_forms_of_sizes_are_refused_with_the_right_one(text: str, right: str) -> None:
    with pytest.raises(ValueError, match="not a size") as caught:
        Size.parse(text)
    assert str(caught.value).endswith(right)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for kind in (Duration, Size, Address):
        with suppress(ValueError):
            value = kind.parse(text)
            assert kind.parse(str(value)) == value


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:80", Address("::1", 80)),
        ("localhost:0", Address("localhost", 0)),
        ("gateway.internal:65535", Address("gateway.internal", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "8080",
        ":8080",
        "127.0.0.1",
        "::1:80",
        "[::1]",
        "[::g]:80",
        "[127.0.0.1]:80",
        "127.0.0.300:80",
        "1.2.3:80",
        "a:65536",
        "a:080",
        "a:-1",
        "a b:1",
        "a..b:1",
        "unix:/run/x",
        "http://a:80",
        "ü:80",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write "):
        Address.parse(text)


def test_a_masked_text_is_sent_and_compared_but_not_printed() -> None:
    text = Masked("hunter2")
    assert f"{text} {text!r} {text:>3}" == "*** *** ***"
    assert text.encode() == pickle.loads(pickle.dumps(text)).encode() == b"hunter2"
    assert text == "hunter2" != Masked("hunter3")


def test_a_masked_query_is_sent_and_compared_but_not_printed() -> None:
    text = MaskedQuery("http://a/b?k=hunter2?x")
    assert {f"{text}", f"{text!r}", str(text)} == {"http://a/b?***"}
    assert text.encode() == pickle.loads(pickle.dumps(text)).encode() == b"http://a/b?k=hunter2?x"
    assert str(pickle.loads(pickle.dumps(text))) == "http://a/b?***"
    assert str(MaskedQuery("http://a/b")) == "http://a/b"


def test_a_secret_cannot_be_printed() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert {str(secret), repr(secret), f"{secret}", f"{[secret]}", "%s" % secret} == {"***", "[***]"}  # noqa: UP031  each way of printing
    assert secret == Secret("hunter2") != Secret("other")
    assert len({secret, Secret("hunter2")}) == 1
    with pytest.raises(TypeError):
        _ = secret + "x"  # type: ignore[operator]  # it is no text
