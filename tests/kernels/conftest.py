import pytest

from kernels.library import load


@pytest.fixture(autouse=True, scope="session")
def compiled() -> None:
    if load() is None:
        pytest.skip("no C++ compiler here")
