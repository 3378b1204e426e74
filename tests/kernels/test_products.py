"""Products that another library lends are tried before they are used."""

from dataclasses import replace

import pytest

import kernels.products
from kernels.contrast import can_contrast
from kernels.pairs import Comparison
from kernels.products import Products, products
from tests.kernels.arrays import randn, without_kernels

FOUND = products()

pytestmark = pytest.mark.skipif(FOUND is None, reason="torch was built with another library of matrix products")


def with_found(found: Products | None, monkeypatch: pytest.MonkeyPatch) -> Products | None:
    """What a process gets that finds these."""
    monkeypatch.setattr(kernels.products, "_find", lambda: found)
    monkeypatch.setattr(kernels.products, "products", products.__wrapped__)
    return kernels.products.products()


def test_right_products_are_used_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    assert with_found(FOUND, monkeypatch) == FOUND
    assert caplog.messages == []


@pytest.mark.parametrize("trial", [0, 1])
def test_wrong_numbers_are_said_and_done_without(
    trial: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    assert FOUND is not None
    # The product of float32 reads the first half of float64's bytes; a count of threads computes nothing.
    wrong = [replace(FOUND, float64=FOUND.float32), replace(FOUND, float32=FOUND.set_threads)][trial]
    assert with_found(wrong, monkeypatch) is None
    (message,) = caplog.messages
    assert message.startswith("the matrix products in torch's library gave kernels wrong numbers: plain torch is used")


def test_a_walk_needs_products(monkeypatch: pytest.MonkeyPatch):
    assert can_contrast(Comparison.DOT, randn(3, 4))
    monkeypatch.setattr("kernels.contrast.products", lambda: None)
    assert not can_contrast(Comparison.DOT, randn(3, 4))


def test_without_a_library_there_is_nobody_to_call_them():
    assert without_kernels(products.__wrapped__) is None
