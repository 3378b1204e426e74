import pytest
import torch

from generator.baseline import Baseline, LeaveOneOut, PerQuery, PreviousEpoch, RunningMean
from generator.sampler import Reward
from graph.batch import Batch
from graph.errors import InputError
from tests.worlds import batch_of, context_of, graph_of

GRAPH = graph_of([(0, 0, 1), (0, 0, 2), (3, 0, 1), (2, 1, 3)], num_entities=4, num_relations=2)


def batch_in(epoch: int) -> Batch:
    return batch_of(GRAPH.train[:2], epoch=epoch)


def taken_off(baseline: Baseline, mean: float, epoch: int) -> float:
    """What the baseline takes off the rewards of a step whose mean reward is `mean`."""
    value = torch.tensor([[mean - 1.0], [mean + 1.0]])
    baseline.prepare(batch_in(epoch))
    return float((value - baseline.advantage(Reward(value, mean), batch_in(epoch))).mean())


def test_previous_epoch_takes_off_the_mean_of_the_epoch_before():
    baseline = PreviousEpoch()
    assert [taken_off(baseline, mean, 0) for mean in (4.0, 8.0)] == [0, 0]
    assert [taken_off(baseline, mean, 1) for mean in (1.0, 2.0, 6.0)] == [6, 6, 6]
    assert taken_off(baseline, 5.0, 2) == 3


def test_previous_epoch_goes_on_in_the_middle_of_an_epoch():
    first, second = PreviousEpoch(), PreviousEpoch()
    for mean, epoch in ((4.0, 0), (1.0, 1), (2.0, 1)):
        taken_off(first, mean, epoch)
    second.load_state(first.state())
    assert taken_off(second, 6.0, 1) == 4
    assert taken_off(second, 0.0, 2) == 3


def test_running_mean_forgets_at_its_rate():
    baseline = RunningMean(0.75)
    assert taken_off(baseline, 4.0, 0) == 0
    assert taken_off(baseline, 8.0, 0) == 4  # the first mean itself, not pulled to 0
    # weights: 8 has 1, 4 has 0.75
    assert taken_off(baseline, 0.0, 5) == pytest.approx((8 + 0.75 * 4) / 1.75)
    other = RunningMean(0.75)
    other.load_state(baseline.state())
    assert taken_off(other, 1.0, 5) == taken_off(baseline, 1.0, 5)


@pytest.mark.parametrize("baseline", [PreviousEpoch(), RunningMean(0.5)])
def test_reset_forgets(baseline: Baseline):
    for epoch in range(3):
        taken_off(baseline, 4.0, epoch)
    baseline.reset()
    assert taken_off(baseline, 1.0, 0) == 0


def test_leave_one_out_takes_off_the_mean_of_the_others():
    value = torch.tensor([[1.0, 4.0, 7.0], [0.0, 0.0, 3.0]])
    advantage = LeaveOneOut().advantage(Reward(value, 2.5), batch_in(0))
    assert torch.allclose(advantage, torch.tensor([[1 - 5.5, 4 - 4.0, 7 - 2.5], [-1.5, -1.5, 3.0]]))


def per_query(decay: float = 0.5) -> PerQuery:
    baseline = PerQuery(decay)
    baseline.start(context_of(GRAPH))
    return baseline


def off_each(baseline: Baseline, rows: list[int], heads: int, values: list[float]) -> list[float]:
    """What is taken off the rewards of a step's positives, which are these train facts."""
    value = torch.tensor(values, dtype=torch.float64)[:, None]
    reward = Reward(value, float(value.mean()))
    batch = batch_of(GRAPH.train[rows], heads=heads)
    baseline.prepare(batch)
    return (value - baseline.advantage(reward, batch))[:, 0].tolist()


def test_per_query_takes_off_what_the_query_had_beyond_its_steps_mean():
    baseline = per_query()
    assert off_each(baseline, [0, 3], 0, [6.0, 2.0]) == [0, 0]
    # The mean was 4; query (0, 0, ?), which fact 1 has too, was 2 above it and (2, 1, ?) below; (?, 0, 1) is new.
    assert off_each(baseline, [0, 1, 3], 1, [1.0, 4.0, 4.0]) == [4, 6, 2]
    # The means were 4 and 3 with weights 1 and 2; distances of (0, 0, ?): 2, then 1; of (?, 0, 1): -2.
    assert off_each(baseline, [2, 0], 1, [0.0, 0.0]) == pytest.approx([10 / 3 - 2, 10 / 3 + 4 / 3])


def test_per_query_keeps_the_first_of_several_positives_with_one_query():
    baseline = per_query(0.0)
    off_each(baseline, [0, 1, 3, 3], 0, [5.0, 9.0, 1.0, 1.0])  # mean 4
    assert off_each(baseline, [1, 3], 0, [0.0, 0.0]) == [5, 1]


def test_per_query_goes_on_from_its_state_and_forgets_at_a_new_start():
    first, second = per_query(), per_query()
    off_each(first, [0, 3], 0, [6.0, 2.0])
    second.load_state(first.state())
    second.keyed_rows()["baseline_of_query"].row.copy_(first.keyed_rows()["baseline_of_query"].row)
    assert off_each(second, [0, 3], 0, [1.0, 2.0]) == off_each(first, [0, 3], 0, [1.0, 2.0]) == [6, 2]
    first.start(context_of(GRAPH))
    assert off_each(first, [0, 3], 0, [1.0, 2.0]) == [0, 0]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_outside_its_range_is_an_error(decay: float):
    with pytest.raises(InputError, match=rf"generator.baseline.decay must be in \[0, 1\), got {decay}"):
        RunningMean(decay)
