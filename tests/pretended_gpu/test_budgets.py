from pathlib import Path

import pytest

from tests.pretended_gpu.budgets import BUDGETS, complaint
from tests.pretended_gpu.drive import alone, count_steps
from tests.pretended_gpu.pretending import pretended_gpu

STEPS = 2


@pytest.mark.parametrize("name", BUDGETS)
def test_a_step_waits_as_often_as_its_budget_says(name, tmp_path: Path):
    with pretended_gpu() as counts:
        count_steps(BUDGETS[name].options, tmp_path, alone("cuda"), counts, steps=STEPS)
    assert (said := complaint(counts, STEPS, BUDGETS[name])) is None, said
