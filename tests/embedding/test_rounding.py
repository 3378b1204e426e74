"""Rounding at random: unbiased, equal to the formula, and a function of entity and column alone."""

import torch
from torch import Tensor

from embedding.rounding import rounded_at_random
from graph.counter_random import combine, random_integers, stream
from tests.kernels.arrays import Way, every_way, randn, with_kernels, without_kernels

ENTITIES = torch.tensor([5, 0, 7, 1_000_003])


def neighbours(value: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of bfloat16 at and below, and above, in absolute value."""
    low = (value.view(torch.int32) >> 16 << 16).view(torch.float32)
    return low, ((value.view(torch.int32) >> 16) + 1 << 16).view(torch.float32)


@every_way
def test_each_number_becomes_one_of_its_neighbours(way: Way):
    rows = randn(4, 200).float()
    rounded = way(rounded_at_random, rows, 3, ENTITIES)
    assert rounded.dtype == torch.bfloat16
    low, high = neighbours(rows)
    is_low, is_high = rounded.float() == low, rounded.float() == high
    assert (is_low | is_high).all()
    assert min(int(is_low.sum()), int(is_high.sum())) > 300


@every_way
def test_it_is_right_on_average(way: Way):
    """Of 4,000 draws of 50 numbers, each mean is within five standard errors of its number, and their mean too."""
    rows = torch.cat([randn(1, 40), 1e-20 * randn(1, 5), 1e20 * randn(1, 5)], 1).float()
    many = 4000
    drawn = way(rounded_at_random, rows.expand(many, -1).contiguous(), stream("a test", 0), torch.arange(many)).double()
    low, high = (each.double() for each in neighbours(rows))
    share = (rows.double() - low) / (high - low)
    error = (share * (1 - share) / many).sqrt().clamp(min=1e-6)
    apart = ((drawn - low) / (high - low)).mean(0) - share
    assert (apart.abs() < 5 * error).all()
    assert apart.mean().abs() < 5 * error.square().sum().sqrt() / 50


@every_way
def test_it_is_the_formula(way: Way):
    """Up if the 16 bits that are cut off and 16 random ones add up to 2^16 or more; three columns share a word."""
    rows, key = randn(4, 8).float(), stream("a test", 1)
    rounded = way(rounded_at_random, rows, key, ENTITIES)
    for row, entity in enumerate(ENTITIES.tolist()):
        for column in range(8):
            word = int(random_integers(key, combine(torch.tensor(entity), torch.tensor(column // 3)), 1 << 48))
            bits = int(rows[row, column].view(torch.int32)) & 0xFFFFFFFF
            up = (bits & 0xFFFF) + (word >> 16 * (column % 3) & 0xFFFF) >= 1 << 16
            assert int(rounded[row, column].view(torch.int16)) & 0xFFFF == (bits >> 16) + up


@every_way
def test_numbers_of_bfloat16_and_no_numbers_stay(way: Way):
    rows = torch.cat([randn(1, 97).bfloat16().float(), torch.tensor([[torch.inf, -torch.inf, 0.0]])], 1)
    assert way(rounded_at_random, rows, 3, ENTITIES[:1]).float().equal(rows)
    # A nan whose only bit would be cut off, too.
    odd = torch.tensor([[0x7FC00000, 0x7F800001, 0x7FFFFFFF]], dtype=torch.int32).view(torch.float32)
    assert way(rounded_at_random, odd, 3, ENTITIES[:1]).isnan().all()


def test_the_kernel_is_plain_torch():
    for width in (1, 2, 3, 4, 50, 200):
        rows, entity = randn(9, width, seed=width).float(), torch.arange(9) * 12345
        rows[0] = torch.tensor([torch.inf, -torch.inf, 3e38])[torch.arange(width) % 3]
        given = rows, stream("a test", width), entity
        assert with_kernels(rounded_at_random, *given).equal(without_kernels(rounded_at_random, *given))


def test_random_numbers_belong_to_entity_and_column_and_key():
    rows = randn(1, 60).float().expand(4, -1).contiguous()
    rounded = rounded_at_random(rows, 3, ENTITIES)
    assert rounded_at_random(rows[:2], 3, ENTITIES[[2, 0]]).equal(rounded[[2, 0]])
    for other in (rounded_at_random(rows, 4, ENTITIES), rounded_at_random(rows, 3, ENTITIES + 1)):
        assert 0.2 < (other != rounded).float().mean() < 0.8
    assert 0.2 < (rounded[0] != rounded[1]).float().mean() < 0.8
    assert rounded_at_random(rows[:, :20].contiguous(), 3, ENTITIES).equal(rounded[:, :20])
