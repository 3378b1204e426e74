"""What every loss promises, whichever it is, beside the formula of each. A yaml in conf/loss is taken in by itself."""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import discriminator.loss
from discriminator.discriminator import Discriminator
from discriminator.loss.infonce import InfoNCE
from discriminator.loss.loss import Loss, Scores
from discriminator.loss.table_loss import TableLoss
from discriminator.reward import ScoreReward
from graph.batch import Negatives, Proposal
from graph.errors import InputError
from graph.known import KnownTriples
from launch.parts import build_loss
from tests.configs import CONF, composed
from tests.pairwise import pairwise
from tests.worlds import adam, batch_of, distmult, graph_of, model_of, site_of

NAMES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))

LEARNED = "learn_temperature=true"
# Other settings of a loss that must keep the promises too, beside those of its yaml.
VARIANTS: dict[str, list[list[str]]] = {
    "bce": [["reduction=mean"]],
    "debiased": [["prior=0.2", "floor=-1.5"], ["prior=0.1", "hardness=0.7"]],
    "hasa": [["hardness=0.0", "prior=0.3"], ["margin=0.0", "prior=0.9"]],
    "infonce": [["temperature=0.5", "margin=0.3"], ["temperature=2.0", LEARNED, "log_q=true"]],
    "log_sigmoid": [["margin=2.0"], ["margin=1.0", "reduction=sum"]],
    "margin_ranking": [["margin=1.5"]],
    "self_adversarial": [["margin=1.0", "temperature=0.7"], ["margin=1.0", "temperature=0.0"]],
    "k_vs_all": [["loss=bce"], ["smoothing=0.2"], ["loss=bce", "smoothing=0.1"]],
}


@dataclass(frozen=True)
class Row:
    """A positive and its negatives that are not masked."""

    positive: float
    negative: list[float]
    log_q_of_target: float
    log_q: list[float]
    suspected: list[bool]
    drawn: int
    """How many negatives there were with the masked ones."""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def share(positive: float, negative: list[float]) -> float:
    """-log of the positive's share."""
    top = max([positive, *negative])
    return top + math.log(sum(math.exp(value - top) for value in [positive, *negative])) - positive


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(temperature * (value - max(values))) for value in values]
    return [power / sum(powers) for power in powers]


def weighted(values: list[float], at: list[float], hardness: float) -> float:
    """sum w e^value, weights by the softmax of other values that they were frozen at."""
    return sum(weight * math.exp(value) for weight, value in zip(softmax(at, hardness), values, strict=True))


def margin_ranking(row: Row, at: Row, o: DictConfig) -> float:
    return mean([max(0.0, o.margin - row.positive + score) for score in row.negative])


def log_sigmoid(row: Row, at: Row, o: DictConfig) -> float:
    parts = [softplus(o.margin + score) for score in row.negative]
    return softplus(-o.margin - row.positive) + (sum(parts) if o.reduction == "sum" else mean(parts))


def bce(row: Row, at: Row, o: DictConfig) -> float:
    # log(1 - sigmoid(x)) is log(sigmoid(-x)), which does not round to log(0).
    parts = [-math.log(sigmoid(-score)) for score in row.negative]
    return -math.log(sigmoid(row.positive)) + (sum(parts) if o.reduction == "sum" else mean(parts))


def self_adversarial(row: Row, at: Row, o: DictConfig) -> float:
    pairs = zip(softmax(at.negative, o.temperature), row.negative, strict=True)
    negative = sum(weight * softplus(o.margin + score) for weight, score in pairs)
    return softplus(-o.margin - row.positive) + negative


def nce(row: Row, at: Row, o: DictConfig) -> float:
    def noise(log_q: float) -> float:
        return math.log(row.drawn * math.exp(log_q))

    pairs = zip(row.negative, row.log_q, strict=True)
    negative = sum(softplus(score - noise(log_q)) for score, log_q in pairs)
    return softplus(noise(row.log_q_of_target) - row.positive) + negative


def infonce(row: Row, at: Row, o: DictConfig) -> float:
    positive = (row.positive - o.margin) / o.temperature
    negative = [score / o.temperature for score in row.negative]
    if o.log_q:
        positive -= row.log_q_of_target
        negative = [score - log_q for score, log_q in zip(negative, row.log_q, strict=True)]
    return share(positive, negative)


def sampled_softmax(row: Row, at: Row, o: DictConfig) -> float:
    """The positive's part of a sum over entities in which each counts 1 / q times as often as it was drawn."""
    of_all = [math.exp(score) / math.exp(q) for score, q in zip(row.negative, row.log_q, strict=True)]
    of_positive = math.exp(row.positive) / math.exp(row.log_q_of_target)
    return -math.log(of_positive / (of_positive + sum(of_all)))


def debiased(row: Row, at: Row, o: DictConfig) -> float:
    if not row.negative:
        return 0.0
    of_all = weighted(row.negative, at.negative, o.hardness)
    of_true = max((of_all - o.prior * math.exp(row.positive)) / (1 - o.prior), math.exp(o.floor))
    return softplus(math.log(len(row.negative) * of_true) - row.positive)


def hasa(row: Row, at: Row, o: DictConfig) -> float:
    if not row.negative:
        return 0.0
    suspected, suspected_at = (
        [score for score, suspect in zip(each.negative, row.suspected, strict=True) if suspect] for each in (row, at)
    )
    likely = weighted(suspected, suspected_at, o.hardness) if suspected else 0.0
    true = max(weighted(row.negative, at.negative, o.hardness) - o.prior * likely, 0.0)
    if true == 0:
        return 0.0
    return softplus(math.log(len(row.negative) / (1 - o.prior) * true) - (row.positive - o.margin))


# Of a positive and its negatives, with the weights that count as constants frozen as they are `at` another row.
FORMULAS: dict[str, Callable[[Row, Row, DictConfig], float]] = {
    "bce": bce,
    "debiased": debiased,
    "hasa": hasa,
    "infonce": infonce,
    "log_sigmoid": log_sigmoid,
    "margin_ranking": margin_ranking,
    "nce": nce,
    "sampled_softmax": sampled_softmax,
    "self_adversarial": self_adversarial,
    "softmax": lambda row, at, o: share(row.positive, row.negative),
}


def one_vs_all(score: list[float], target: int, answers: set[int], o: DictConfig) -> float:
    return share(score[target], [value for entity, value in enumerate(score) if entity != target])


def k_vs_all(score: list[float], target: int, answers: set[int], o: DictConfig) -> float:
    right = 1.0 if o.loss == "bce" else 1 / len(answers)
    label = [(1 - o.smoothing) * right * (e in answers) + o.smoothing / len(score) for e in range(len(score))]
    if o.loss == "bce":
        return mean([y * softplus(-s) + (1 - y) * softplus(s) for y, s in zip(label, score, strict=True)])
    return sum(y * one_vs_all(score, entity, answers, o) for entity, y in enumerate(label))


# Of the scores of all entities.
TABLE_FORMULAS: dict[str, Callable[[list[float], int, set[int], DictConfig], float]] = {
    "k_vs_all": k_vs_all,
    "one_vs_all": one_vs_all,
}


@dataclass(frozen=True)
class Case:
    name: str
    options: tuple[str, ...]
    """Overrides of conf/loss/NAME.yaml."""

    def __str__(self) -> str:
        return " ".join([self.name, *self.options])

    def make(self, known: KnownTriples | None = None) -> Any:
        return build_loss(config_of(self.name, *self.options), known or KnownTriples.of(GRAPH.train, 9, 2))

    def plain(self, row: Row, at: Row) -> float:
        return FORMULAS[self.name](row, at, config_of(self.name, *self.options))


@cache
def config_of(name: str, *options: str) -> DictConfig:
    """The loss's part of a run's config."""
    return composed(f"loss/{name}", *(f"loss.{option}" for option in options)).loss


def cases(names: list[str]) -> list[Case]:
    return [Case(name, tuple(options)) for name in names for options in [[], *VARIANTS.get(name, [])]]


# 9 entities; (0, 0, ?) has four answers, and other queries one or two.
GRAPH = graph_of(
    [(0, 0, 1), (0, 0, 3), (0, 0, 4), (0, 0, 8), (2, 0, 1), (5, 1, 6), (5, 1, 7), (7, 1, 0)],
    num_entities=9,
    num_relations=2,
)


def target_of(name: str) -> type:
    """The class that a yaml of conf/loss names, itself or by the one that it begins with."""
    config = OmegaConf.load(CONF / "loss" / f"{name}.yaml")
    return get_object(config._target_) if "_target_" in config else target_of(config.defaults[0])


CASES = cases([name for name in NAMES if not issubclass(target_of(name), TableLoss)])
TABLE_CASES = cases([name for name in NAMES if issubclass(target_of(name), TableLoss)])
every_loss = pytest.mark.parametrize("case", CASES, ids=str)


def inputs(rows: int, negatives: int, known: Tensor | None = None) -> Scores:
    """What a loss may be given; scores with a gradient."""
    generator = torch.Generator().manual_seed(rows * 100 + negatives)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    positive, negative = normal(rows).requires_grad_(), (2 * normal(rows, negatives)).requires_grad_()
    proposal = Proposal(-1 - normal(rows, negatives).abs(), -1 - normal(rows).abs())
    suspected = torch.rand(rows, negatives, generator=generator) < 0.4
    return Scores(positive, negative, known, proposal, suspected)


def gradient(loss: Loss, scores: Scores) -> tuple[Tensor, Tensor, Tensor]:
    value = loss(scores)
    return value.detach(), *torch.autograd.grad(value.sum(), (scores.positive, scores.negative))


def row_of(scores: Scores, i: int) -> tuple[Row, list[int]]:
    """A row, and where its negatives stand."""
    assert scores.proposal is not None and scores.suspected is not None
    kept = [j for j in range(scores.negative.shape[1]) if scores.known is None or not scores.known[i, j]]
    row = Row(
        float(scores.positive.detach()[i]),
        [float(scores.negative.detach()[i, j]) for j in kept],
        float(scores.proposal.target[i]),
        [float(scores.proposal.negative[i, j]) for j in kept],
        [bool(scores.suspected[i, j]) for j in kept],
        scores.negative.shape[1],
    )
    return row, kept


def test_every_loss_has_a_yaml():
    assert set(NAMES) >= {*FORMULAS, *TABLE_FORMULAS}
    modules = [
        importlib.import_module(f"discriminator.loss.{module.name}")
        for module in pkgutil.iter_modules(discriminator.loss.__path__)
    ]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    losses = {value for value in found if issubclass(value, Loss | TableLoss) and not inspect.isabstract(value)}
    assert losses == {type(case.make()) for case in [*CASES, *TABLE_CASES]}


@pairwise(case=[case for case in CASES if case.name in FORMULAS], negatives=[1, 4], masked=[False, True])
def test_value_and_gradient_are_those_of_the_formula(case: Case, negatives: int, masked: bool):
    known = (torch.arange(6 * negatives).view(6, negatives) % 3 == 0) if masked else None
    scores = inputs(6, negatives, known)
    value, by_positive, by_negative = gradient(case.make(), scores)
    step = 1e-6
    for i in range(6):
        row, kept = row_of(scores, i)
        assert float(value[i]) == pytest.approx(case.plain(row, row), abs=1e-12)
        above, below = (replace(row, positive=row.positive + sign * step) for sign in (1, -1))
        slope = (case.plain(above, row) - case.plain(below, row)) / (2 * step)
        assert float(by_positive[i]) == pytest.approx(slope, abs=1e-6)
        for place, j in enumerate(kept):
            moved = [
                replace(row, negative=[*row.negative[:place], row.negative[place] + end, *row.negative[place + 1 :]])
                for end in (step, -step)
            ]
            slope = (case.plain(moved[0], row) - case.plain(moved[1], row)) / (2 * step)
            assert float(by_negative[i, j]) == pytest.approx(slope, abs=1e-6)
        for j in set(range(negatives)) - set(kept):
            assert float(by_negative[i, j]) == 0


@every_loss
@pytest.mark.parametrize("value", [1e4, -1e4, math.inf, -math.inf])
def test_a_masked_negative_has_no_effect(case: Case, value: float):
    known = torch.zeros(5, 4, dtype=torch.bool)
    known[:, 2] = True
    scores = inputs(5, 4, known)
    changed = scores.negative.detach().clone()
    changed[:, 2] = value
    before = gradient(case.make(), scores)
    after = gradient(case.make(), replace(scores, negative=changed.requires_grad_()))
    for first, second in zip(before, after, strict=True):
        assert first.equal(second)


@pytest.mark.parametrize("case", [case for case in CASES if case.name != "nce"], ids=str)  # it counts what was drawn
def test_a_masked_negative_is_as_if_it_were_not_there(case: Case):
    known = torch.zeros(5, 4, dtype=torch.bool)
    known[:, 2] = True
    scores = inputs(5, 4, known)
    assert scores.proposal is not None and scores.suspected is not None
    others = [0, 1, 3]
    without = Scores(
        scores.positive,
        scores.negative.detach()[:, others].requires_grad_(),
        None,
        replace(scores.proposal, negative=scores.proposal.negative[:, others]),
        scores.suspected[:, others],
    )
    with_it, without_it = gradient(case.make(), scores), gradient(case.make(), without)
    torch.testing.assert_close(with_it[0], without_it[0])
    torch.testing.assert_close(with_it[2][:, others], without_it[2])


@pairwise(case=CASES, fill=[0.0, math.inf, -math.inf], negatives=[1, 4])
def test_a_row_that_is_masked_whole_is_finite(case: Case, fill: float, negatives: int):
    known = torch.zeros(3, negatives, dtype=torch.bool)
    known[1] = True
    scores = inputs(3, negatives, known)
    scores = replace(scores, negative=scores.negative.detach().masked_fill(known, fill).requires_grad_())
    value, by_positive, by_negative = gradient(case.make(), scores)
    row, _ = row_of(scores, 1)
    if case.name in FORMULAS:
        assert float(value[1]) == pytest.approx(case.plain(row, row), abs=1e-12)
    assert by_positive.isfinite().all()
    assert (by_negative[1] == 0).all()
    assert value.isfinite().all()


@every_loss
@pytest.mark.parametrize("masked", [False, True])
def test_an_unmasked_nan_is_not_hidden(case: Case, masked: bool):
    scores = inputs(2, 3, torch.tensor([[True, False, False]] * 2) if masked else None)
    negative = scores.negative.detach().clone()
    negative[0, 1] = math.nan
    value = case.make()(replace(scores, negative=negative))
    assert value[0].isnan()
    assert value[1].isfinite()


@every_loss
def test_a_rank_without_positives_has_no_loss(case: Case):
    for known in (None, torch.zeros(0, 4, dtype=torch.bool)):
        value, by_positive, by_negative = gradient(case.make(), inputs(0, 4, known))
        assert value.shape == by_positive.shape == (0,)
        assert by_negative.shape == (0, 4)


@every_loss
def test_descent_raises_positives_and_lowers_negatives(case: Case):
    scores = replace(inputs(8, 4), suspected=torch.zeros(8, 4, dtype=torch.bool))  # a suspect may well be raised
    loss = case.make()
    first, by_positive, by_negative = gradient(loss, scores)
    assert (by_positive <= 0).all()
    assert (by_negative >= 0).all()
    assert (by_positive < 0).any()
    assert (by_negative > 0).any()
    lower = replace(scores, positive=scores.positive - 0.1 * by_positive, negative=scores.negative - 0.1 * by_negative)
    assert (first >= 0).all()
    assert loss(lower).sum().item() < first.sum().item()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_scores_do_not_overflow(case: Case, dtype: torch.dtype):
    positive = torch.tensor([200.0, -200.0], dtype=dtype, requires_grad=True)
    negative = torch.tensor([[-200.0], [200.0]], dtype=dtype, requires_grad=True)
    scores = replace(inputs(2, 1), positive=positive, negative=negative)
    value, by_positive, by_negative = gradient(case.make(), scores)
    for i in range(2):
        row, _ = row_of(scores, i)
        if case.name in FORMULAS and case.name != "sampled_softmax":  # whose formula overflows
            assert float(value[i]) == pytest.approx(overflowing(case, row), rel=1e-5, abs=1e-6)
    for each in (value, by_positive, by_negative):
        assert each.isfinite().all()


def overflowing(case: Case, row: Row) -> float:
    """The formula; of binary cross-entropy at these scores by hand, where the sigmoid is 0 or 1 in floating point."""
    if case.name == "bce":
        return max(-row.positive, 0.0) + max(row.negative[0], 0.0)
    return case.plain(row, row)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("margin_ranking", ["margin=0.0"], "loss.margin must be positive, got 0.0"),
        ("margin_ranking", ["margin=-1.0"], "loss.margin must be positive, got -1.0"),
        ("self_adversarial", ["temperature=-0.5"], "loss.temperature must be at least 0, got -0.5"),
        ("log_sigmoid", ["reduction=max"], "loss.reduction must be mean or sum, got 'max'"),
        ("infonce", ["temperature=0.0"], "loss.temperature must be positive, got 0.0"),
        ("infonce", ["margin=-0.1"], "loss.margin must be at least 0, got -0.1"),
        (
            "infonce",
            [LEARNED, "least_temperature=2.0"],
            "loss.temperature, if learned, must be .* got 1.0 for 2.0 to 1",
        ),
        (
            "infonce",
            [LEARNED, "least_temperature=1.0"],
            "loss.temperature, if learned, must be .* got 1.0 for 1.0 to 1",
        ),
        (
            "infonce",
            [LEARNED, "least_temperature=0.0"],
            "loss.temperature, if learned, must be .* got 1.0 for 0.0 to 1",
        ),
        ("infonce", [LEARNED, "greatest_temperature=0.5"], "loss.temperature, if learned, .* got 1.0 for 0.01 to 0.5"),
        ("debiased", ["prior=0.0"], "loss.prior must be above 0 and below 1, got 0.0"),
        ("debiased", ["prior=1.0"], "loss.prior must be above 0 and below 1, got 1.0"),
        ("debiased", ["hardness=-1.0"], "loss.hardness must be at least 0, got -1.0"),
        ("hasa", ["prior=1.5"], "loss.prior must be above 0 and below 1, got 1.5"),
        ("hasa", ["margin=-1.0"], "loss.margin must be at least 0, got -1.0"),
        ("hasa", ["hardness=-1.0"], "loss.hardness must be at least 0, got -1.0"),
        ("k_vs_all", ["smoothing=1.0"], "loss.smoothing must be at least 0 and below 1, got 1.0"),
        ("k_vs_all", ["smoothing=-0.1"], "loss.smoothing must be at least 0 and below 1, got -0.1"),
        ("k_vs_all", ["loss=margin"], "loss.loss must be softmax or bce, got 'margin'"),
    ],
)
def test_an_option_out_of_its_range_is_an_error(name: str, options: list[str], message: str):
    with pytest.raises(InputError, match=f"^{message}"):
        Case(name, tuple(options)).make()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nce", [], "loss=nce needs a generator that knows the probability of each draw .Negatives.proposal."),
        ("sampled_softmax", [], "loss.log_q=true needs a generator that knows the probability of each draw"),
        ("infonce", ["log_q=true"], "loss.log_q=true needs a generator that knows the probability of each draw"),
        ("hasa", [], "loss=hasa needs a generator that marks negatives that may be missing facts .*generator=hasa"),
    ],
)
def test_what_a_generator_does_not_say_is_an_error(name: str, options: list[str], message: str):
    scores = replace(inputs(2, 3), proposal=None, suspected=None)
    with pytest.raises(InputError, match=f"^{message}"):
        Case(name, tuple(options)).make()(scores)


def learned(temperature: float) -> InfoNCE:
    return Case("infonce", (f"temperature={temperature}", LEARNED, "least_temperature=0.1")).make()


def test_a_learned_temperature_has_the_gradient_of_the_formula():
    scores, loss, step = inputs(4, 3), learned(2.0), 1e-6
    (by_place,) = torch.autograd.grad(loss(scores).sum(), loss.place)
    values = []
    for end in (step, -step):
        moved = learned(2.0)
        moved.place.data += end
        fixed = Case("infonce", (f"temperature={float(moved.temperature.detach())}",)).make()
        values.append(float(fixed(scores).detach().sum()))
    assert by_place.shape == (1,)
    assert by_place.dtype == torch.float64
    assert float(by_place) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-7)


@pytest.mark.parametrize("place", [-1e3, -3.0, 0.0, 3.0, 1e3])
def test_a_learned_temperature_stays_within_its_bounds(place: float):
    loss = learned(2.0)
    assert float(loss.temperature.detach()) == pytest.approx(2.0)
    loss.place.data.fill_(place)
    assert 0.1 * (1 - 1e-12) <= float(loss.temperature.detach()) <= 100 * (1 + 1e-12)


def test_the_gradient_of_a_temperature_is_summed_in_float64():
    scores, loss = inputs(64, 3), learned(2.0)
    single = Scores(scores.positive.detach().float(), scores.negative.detach().float())
    parts = [Scores(single.positive[rows], single.negative[rows]) for rows in torch.arange(64).split([1, 20, 43])]
    (whole,) = torch.autograd.grad(loss(single).sum(), loss.place)
    total = sum(torch.autograd.grad(loss(part).sum(), loss.place)[0] for part in parts)
    torch.testing.assert_close(whole, total, rtol=1e-13, atol=0)


@pytest.mark.parametrize("case", [each for each in TABLE_CASES if each.name in TABLE_FORMULAS], ids=str)
@pytest.mark.parametrize("chunk_size", [1, 2])
@pytest.mark.parametrize("reciprocal", [False, True])
def test_value_and_gradient_over_the_table_are_those_of_the_formula(case: Case, chunk_size: int, reciprocal: bool):
    model = model_of(site_of(GRAPH), scoring=distmult, reciprocal=reciprocal)
    player = Discriminator(model, loss=case.make(), reward=ScoreReward(), optimizer=adam)
    # The query of several answers for tails, and for heads the one with two.
    triples = GRAPH.train[[0, 4, 5, 7, 1, 0, 6, 3]]
    batch = batch_of(triples, heads=4 // chunk_size, chunk_size=chunk_size)
    weight = torch.arange(1.0, 9.0, dtype=torch.float64)
    batch = replace(batch, weight=weight, global_weight=float(weight.sum()))
    negatives = Negatives(torch.zeros(len(batch.chunk), 1, dtype=torch.int64))
    facts = set(map(tuple, GRAPH.train.tolist()))

    def plain() -> float:
        every = torch.arange(9).expand(len(batch.chunk), -1).contiguous()
        total = 0.0
        for i, score in enumerate(model.score(batch, every)[1].tolist()):
            head, relation, tail = triples[i].tolist()
            of_head = i < batch.head_rows
            corrupted = [(e, relation, tail) if of_head else (head, relation, e) for e in range(9)]
            answers = {e for e in range(9) if corrupted[e] in facts}
            formula, target = TABLE_FORMULAS[case.name], head if of_head else tail
            total += float(weight[i]) * formula(score, target, answers, config_of(case.name, *case.options))
        return total / batch.global_weight

    loss = player.judge(batch, negatives).loss
    assert float(loss.detach()) == pytest.approx(plain(), rel=1e-9)  # softplus(x) is x above 20
    loss.backward()
    rows = model.entity.take_gradient()
    by_entity = torch.zeros_like(model.entity.weight).index_add_(0, rows.row, rows.value)
    relation = model.scorer.relation
    assert relation.grad is not None
    for parameter, found in ((model.entity.weight, by_entity), (relation.detach(), relation.grad)):
        for i in range(parameter.numel()):
            value, ends = float(parameter.view(-1)[i]), []
            for end in (1e-6, -1e-6):
                parameter.view(-1)[i] = value + end
                with torch.no_grad():
                    ends.append(plain())
            parameter.view(-1)[i] = value
            assert float(found.view(-1)[i]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("case", TABLE_CASES, ids=str)
def test_a_rank_without_positives_takes_part_over_the_table(case: Case):
    model = model_of(site_of(GRAPH), scoring=distmult)
    player = Discriminator(model, loss=case.make(), reward=ScoreReward(), optimizer=adam)
    verdict = player.judge(batch_of(GRAPH.train[:0]), Negatives(torch.zeros(0, 1, dtype=torch.int64)))
    assert float(verdict.loss.detach()) == 0
