"""What validation ranks, and by which metric it tells how good a model is."""

import pytest

from graph.errors import InputError
from tests.worlds import KBGANRun, families
from trainer.validation import METRICS, Validation


@pytest.mark.parametrize("metric", METRICS)
def test_the_value_is_the_metric_of_both_sides(metric: str, tmp_path):
    run = KBGANRun(tmp_path, metric=metric)
    validated = run.trainer.validation.of(run.model)
    assert validated.value == validated.metrics[f"valid/{metric}"] == validated.metrics[f"valid/both/{metric}"]
    assert validated.metrics["valid/mrr"] == validated.metrics["valid/both/mrr"]
    assert validated.metrics["valid/both/count"] == 2 * len(run.graph.valid)
    assert {"valid/head/hits@1", "valid/tail/mean_rank"} <= validated.metrics.keys()


@pytest.mark.parametrize("metric", ["MRR", "hits@5", "mean_rank", ""])
def test_a_metric_that_can_t_choose_is_named(metric: str, tmp_path):
    evaluator = KBGANRun(tmp_path).trainer.validation.evaluator
    with pytest.raises(InputError, match=f"trainer.metric must be one of mrr, hits@1, hits@3, hits@10, got '{metric}'"):
        Validation(evaluator, families().valid, metric=metric)
