import torch
from scipy.stats import chisquare, kstest

from graph.counter_random import combine, random_bits, random_integers, random_uniform, stream

PINNED_STREAM = 3856027577947076116
PINNED_BITS = [-988997071897276591, -5087425811044773346, 6845908903345939340]


def test_numbers_are_a_function_of_the_counter_alone() -> None:
    key, counter = stream("test", 1, 2), torch.arange(1000)
    whole = random_bits(key, counter)
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(random_bits(key, counter[shuffled]), whole[shuffled])
    assert torch.equal(random_bits(key, counter.view(10, 100)).flatten(), whole)


def test_the_hash_is_pinned_because_a_change_would_change_every_run() -> None:
    assert stream("negatives", 0, 0) == PINNED_STREAM
    assert random_bits(PINNED_STREAM, torch.tensor([0, 1, 2])).tolist() == PINNED_BITS


def test_integers_are_uniform_and_in_range() -> None:
    drawn = random_integers(stream("integers", 5), torch.arange(70_000), 7)
    assert chisquare(torch.bincount(drawn, minlength=7).numpy()).pvalue > 1e-4
    assert drawn.min() == 0
    assert drawn.max() == 6


def test_uniform_numbers_are_uniform_and_never_0_or_1() -> None:
    drawn = random_uniform(stream("uniform", 5), torch.arange(50_000))
    assert kstest(drawn.numpy(), "uniform").pvalue > 1e-4
    assert drawn.min() > 0
    assert drawn.max() < 1


def test_streams_differ_by_purpose_and_by_each_number_of_the_key() -> None:
    keys = [stream("a", 1, 2), stream("b", 1, 2), stream("a", 2, 1), stream("a", 1, 3), stream("a", 0, 2)]
    columns = torch.stack([random_uniform(key, torch.arange(20_000)) for key in keys])
    correlation = torch.corrcoef(columns) - torch.eye(len(keys), dtype=torch.float64)
    assert correlation.abs().max() < 0.05


def test_pairs_make_counters_that_do_not_repeat() -> None:
    counter = combine(torch.arange(300)[:, None], torch.arange(300))
    assert len(counter.unique()) == 300 * 300
