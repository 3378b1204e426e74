import torch

from graph.leaks import count_repeated, count_reversed


def test_repetitions_are_counted_as_sets_count_them():
    generator = torch.Generator().manual_seed(5)
    known = torch.randint(0, 6, (150, 3), generator=generator)
    triples = torch.randint(0, 7, (60, 3), generator=generator)
    known[0], triples[0] = torch.tensor([6, 6, 6]), torch.tensor([6, 6, 6])
    as_set = set(map(tuple, known.tolist()))
    assert count_repeated(triples, known) == sum(row in as_set for row in map(tuple, triples.tolist())) > 1
    assert count_repeated(triples[:0], known) == count_repeated(triples, known[:0]) == 0


def test_large_ids_are_not_taken_for_repetitions():
    # (head * relations + relation) * entities + tail is the same number, modulo 2^64, for the first two.
    triples = torch.tensor([[0, 0, 0], [1 << 22, 0, 0], [0, (1 << 16) - 1, (1 << 26) - 1]])
    assert count_repeated(triples[:1], triples[1:]) == 0
    assert count_repeated(triples[1:], triples) == 2


def test_reversed_triples_are_counted_as_a_plain_loop_counts_them():
    generator = torch.Generator().manual_seed(2)
    known = torch.randint(0, 9, (60, 3), generator=generator)
    triples = torch.randint(0, 11, (80, 3), generator=generator)
    rows = known.tolist()
    expected = sum(any((a, c) == (t, h) and b != r for a, b, c in rows) for h, r, t in triples.tolist())
    assert count_reversed(triples, known) == expected > 10
    assert count_reversed(triples[:0], known) == count_reversed(triples, known[:0]) == 0


def test_a_relation_that_is_its_own_inverse_reverses_nothing():
    assert count_reversed(torch.tensor([[0, 1, 2]]), torch.tensor([[2, 1, 0]])) == 0
    assert count_reversed(torch.tensor([[0, 1, 2]]), torch.tensor([[2, 1, 0], [2, 3, 0]])) == 1
