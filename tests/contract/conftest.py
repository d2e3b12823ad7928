"""What the contract's tests read: the specification's samples, golden vectors, and the corpora that lie beside the project."""

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPORA = HERE.parents[2] / "shared" / "corpora"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The samples of the specification."""
    return HERE / "samples"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Signatures made by the openssl command, with a key that is used nowhere else."""
    return HERE / "golden"


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Test data made by others; in CI its absence is a failure (see the root's conftest)."""
    if not CORPORA.is_dir():
        pytest.skip("the corpora are missing: ../shared/corpora, relative to the project's root")
    return CORPORA


@pytest.fixture(scope="session")
def openssl() -> str:
    """The openssl command."""
    return shutil.which("openssl") or pytest.skip("the openssl command is missing")
