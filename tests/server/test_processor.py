"""What OpenSSL is told about the processor: by what stands in /proc/cpuinfo, and what reaches a worker of it."""

import sys
from pathlib import Path
from typing import Final

import pytest

from gateway.server.children import Children
from gateway.server.processor import openssl_settings

ZEN_3: Final = "fpu sse2 bmi1 avx2 bmi2 adx sha_ni vaes"
ZEN_4: Final = f"{ZEN_3} avx512f avx512ifma"
NOTHING: Final[dict[str, str]] = {}
WITHOUT_ADX: Final = {"OPENSSL_ia32cap": ":~0x80000"}


def cpuinfo(folder: Path, vendor: str, family: str, flags: str) -> Path:
    """Write what the kernel tells of a machine with 128 such processors."""
    file = folder / "cpuinfo"
    fields = {"processor": "0", "vendor_id": vendor, "cpu family": family, "model\t": "1", "flags\t\t": flags, "bugs": "a b"}
    processor = "".join(f"{name}\t: {value}\n" for name, value in fields.items())
    file.write_text(f"{processor}\n{processor}\n" * 64)
    return file


@pytest.mark.parametrize(
    ("processor", "bits", "told"),
    [
        (("AuthenticAMD", "25", ZEN_3), 2048, WITHOUT_ADX),
        (("AuthenticAMD", "25", ZEN_3), 3072, NOTHING),
        (("AuthenticAMD", "25", ZEN_3), 4096, NOTHING),
        (("AuthenticAMD", "25", ZEN_4), 2048, NOTHING),
        (("AuthenticAMD", "25", ZEN_3.replace("avx2", "avx")), 2048, NOTHING),
        (("AuthenticAMD", "23", ZEN_3), 2048, NOTHING),
        (("GenuineIntel", "25", ZEN_3), 2048, NOTHING),
        (("GenuineIntel", "6", ZEN_3), 2048, NOTHING),
    ],
)
def test_openssl_is_told_to_do_without_adx_only_where_that_was_measured_to_be_faster(
    tmp_path: Path, processor: tuple[str, str, str], bits: int, told: dict[str, str]
) -> None:
    assert openssl_settings(bits, cpuinfo(tmp_path, *processor)) == told


@pytest.mark.parametrize("text", [None, "", "\n\n", "processor: 0\nHardware: arm\n", "flags"])
def test_a_machine_that_tells_nothing_of_its_processor_is_left_alone(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    assert openssl_settings(2048, file) == NOTHING


@pytest.mark.parametrize(
    ("own", "told", "found"),
    [
        (None, WITHOUT_ADX, ":~0x80000"),
        (None, NOTHING, "None"),
        (":~0x20", WITHOUT_ADX, ":~0x20"),  # what the operator says counts
    ],
)
def test_a_worker_is_started_with_what_openssl_is_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, told: dict[str, str], found: str
) -> None:
    if own is None:
        monkeypatch.delenv("OPENSSL_ia32cap", raising=False)
    else:
        monkeypatch.setenv("OPENSSL_ia32cap", own)
    file = tmp_path / "seen"
    program = f"import os, pathlib; pathlib.Path({str(file)!r}).write_text(str(os.environ.get('OPENSSL_ia32cap')))"
    child = Children((sys.executable, "-c", program)).start(told)
    child._process.wait(30)
    child.channel.close()
    assert child.openssl == told
    assert file.read_text() == found
