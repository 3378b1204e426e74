import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pretended_gpu.budgets import BUDGETS, complaint
from tests.pretended_gpu.drive import alone, count_steps
from tests.pretended_gpu.launches import triton_launches
from tests.pretended_gpu.pretending import pretended_gpu

STEPS = 2
WITH_TRITON = [name for name, budget in BUDGETS.items() if budget.with_triton is not None]
_SMALL = {"trainer.chunk_size": 16, "generator.num_negatives": 4}
"""The interpreter takes milliseconds for each program; how many kernels there are does not depend on these numbers."""


@pytest.mark.parametrize("name", BUDGETS)
def test_a_step_waits_as_often_as_its_budget_says(name, tmp_path: Path):
    with pretended_gpu() as counts:
        count_steps(BUDGETS[name].options, tmp_path, alone("cuda"), counts, steps=STEPS)
    assert (said := complaint(counts, STEPS, BUDGETS[name])) is None, said


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("name", WITH_TRITON)
def test_a_step_with_tritons_kernels_stays_within_its_budget(name, tmp_path: Path):
    budget = BUDGETS[name]
    assert budget.with_triton is not None
    given = dict(option.split("=") for option in budget.options)
    options = [f"{key}={_SMALL.get(key, value)}" for key, value in given.items()]
    with pretended_gpu() as counts, triton_launches(counts):
        count_steps((*options, "trainer.batch_size=32"), tmp_path, alone("cuda"), counts, steps=1, after=1)
    assert any("Triton: " in line for line in counts.kernels)
    assert (said := complaint(counts, 1, replace(budget, kernels=budget.with_triton))) is None, said
