import pytest


@pytest.fixture(autouse=True)
def every_test_here(compiled: None) -> None:
    """Is skipped where kernels can't be built."""
