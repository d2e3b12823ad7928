"""Private keys that others may read."""

import pytest

from tests.config.files import Files


@pytest.fixture
def key(files: Files) -> str:
    (files.folder / "own.key").write_text("")
    return "own.key"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_E2_a_key_for_the_owner_only_is_fine(files: Files, key: str, mode: int) -> None:
    (files.folder / key).chmod(mode)
    assert files.load(files.text(alipayplus__signing__private_keys=f'{{"1": {key}}}')).warnings == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o444])
def test_E2_a_key_readable_by_others_is_a_warning(files: Files, key: str, mode: int) -> None:
    (files.folder / key).chmod(mode)
    tls = f"{{certificate: a, private_key: {key}}}"
    text = files.text(
        alipayplus__signing__private_keys=f'{{"1": {key}}}',
        alipayplus__tls=tls,
        server__tls=tls,
        session__forward__url="https://a",
        session__forward__tls=tls,
    )
    warnings = files.load(text).warnings
    assert {fault.path for fault in warnings} == {
        ("alipayplus", "signing", "private_keys", "1"),
        ("alipayplus", "tls", "private_key"),
        ("server", "tls", "private_key"),
        ("session", "forward", "tls", "private_key"),
    }
    assert all(f"mode {mode:04o}" in fault.message for fault in warnings)


def test_files_that_are_not_there_are_left_to_others(files: Files) -> None:
    assert files.load(files.text()).warnings == ()
