"""What terms add to the loss, beside plain formulas. A yaml in conf/term is taken in by itself."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

import discriminator.term
import embedding.scoring.candidate_blocks
from discriminator.discriminator import Discriminator
from discriminator.loss.loss import Scores
from discriminator.loss.margin_ranking import MarginRanking
from discriminator.reward import ScoreReward
from discriminator.term.term import Term
from embedding.model import KGEModel
from embedding.scoring.complex import ComplEx
from embedding.scoring.quate import QuatE
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from graph.batch import Batch, Negatives
from graph.errors import InputError
from launch.build import build_run, build_trainer
from launch.parts import build_term
from tests.configs import CONF, composed
from tests.worlds import adam, batch_of, context_of, distmult, families, model_of, site_of, transe
from trainer.runtime import Runtime

NAMES = sorted(path.stem for path in (CONF / "term").glob("*.yaml"))
SCORINGS: dict[str, Callable[[int], ScoringFunction]] = {
    "DistMult": distmult,
    "TransE": transe,
    "ComplEx": partial(ComplEx, precision="float32"),
    "RotatE": RotatE,
    "QuatE": partial(QuatE, precision="float32"),
}
# Real numbers that make one number of a row, of entities and of relations.
COMPONENTS = {"ComplEx": (2, 2), "RotatE": (2, 1), "QuatE": (4, 4)}


def moduli(row: Tensor, components: int) -> list[float]:
    size = len(row) // components
    return [float(sum(row[i + part * size] ** 2 for part in range(components))) ** 0.5 for i in range(size)]


def n3(model: KGEModel, scoring: str, rows: list[Tensor], relation: int) -> float:
    of_entity, of_relation = COMPONENTS.get(scoring, (1, 1))
    components = of_entity, of_relation, of_entity
    return sum(size**3 for row, each in zip(rows, components, strict=True) for size in moduli(row, each))


def l2(model: KGEModel, scoring: str, rows: list[Tensor], relation: int) -> float:
    return sum(float(number) ** 2 for row in rows for number in row)


def relation_prediction(model: KGEModel, scoring: str, rows: list[Tensor], relation: int) -> float:
    head, _, tail = rows
    score = torch.stack([model.scoring.score(head, other, tail) for other in model.scorer.relation.detach()])
    return -float(score.log_softmax(0)[relation])


# Of the rows of a head, a relation and a tail, for weight 1.
FORMULAS = {"l2": l2, "n3": n3, "relation_prediction": relation_prediction}


def config_of(name: str, *options: str) -> DictConfig:
    return composed(f"term/{name}", *(f"terms.{name}.{option}" for option in options)).terms[name]


def term_of(name: str, weight: float = 0.7, **options: Any) -> Term:
    given = [f"{option}={value}" for option, value in options.items()]
    return build_term(config_of(name, f"weight={weight}", *given), context_of(families()))


def weighted_batch(*, heads: int = 3) -> Batch:
    batch = batch_of(families().train[100:106], heads=heads)
    weight = torch.arange(1.0, 7.0, dtype=torch.float64)
    return replace(batch, weight=weight, global_weight=21.0)


def by_formula(name: str, scoring: str, model: KGEModel, batch: Batch) -> list[float]:
    entity, relation = model.entity.gather_all(model.entity.weight), model.scorer.relation.detach()
    rows = [[entity[h], relation[r], entity[t]] for h, r, t in zip(batch.head, batch.relation, batch.tail, strict=True)]
    return [0.7 * FORMULAS[name](model, scoring, row, int(r)) for row, r in zip(rows, batch.relation, strict=True)]


def test_every_term_has_a_yaml():
    assert set(NAMES) >= set(FORMULAS)
    modules = [
        importlib.import_module(f"discriminator.term.{module.name}")
        for module in pkgutil.iter_modules(discriminator.term.__path__)
    ]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    terms = {value for value in found if issubclass(value, Term) and not inspect.isabstract(value)}
    assert terms == {type(term_of(name)) for name in NAMES}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("scoring", SCORINGS)
def test_value_and_gradient_are_those_of_the_formula(name: str, scoring: str):
    model = model_of(site_of(families()), scoring=SCORINGS[scoring])
    model.entity.weight.mul_(0.5)
    batch = weighted_batch()
    value = term_of(name)(model, batch)
    assert value.tolist() == pytest.approx(by_formula(name, scoring, model, batch), rel=1e-10)

    def mean() -> float:
        values = torch.tensor(by_formula(name, scoring, model, batch), dtype=torch.float64)
        return float(batch.share_of_mean(values))

    batch.share_of_mean(value).backward()
    rows = model.entity.take_gradient()
    by_entity = torch.zeros_like(model.entity.weight).index_copy_(0, rows.row, rows.value)
    relation = model.scorer.relation
    assert relation.grad is not None
    touched = model.entity.row_of_entity[batch.head[:2]], batch.relation[:2]
    for parameter, found, places in zip(
        (model.entity.weight, relation.detach()), (by_entity, relation.grad), touched, strict=True
    ):
        for row in set(places.tolist()):
            for column in range(parameter.shape[1]):
                start, ends = float(parameter[row, column]), []
                for end in (1e-6, -1e-6):
                    parameter[row, column] = start + end
                    ends.append(mean())
                parameter[row, column] = start
                slope = (ends[0] - ends[1]) / 2e-6
                assert float(found[row, column]) == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_zeros_have_a_gradient(name: str):
    model = model_of(site_of(families()), scoring=SCORINGS["ComplEx"])
    model.entity.weight.zero_()
    term_of(name)(model, weighted_batch()).sum().backward()
    assert model.entity.take_gradient().value.isfinite().all()


def predict(model: KGEModel) -> tuple[Tensor, Tensor, Tensor]:
    batch = weighted_batch()
    value = term_of("relation_prediction")(model, batch)
    batch.share_of_mean(value).backward()
    rows, relation = model.entity.take_gradient(), model.scorer.relation
    assert relation.grad is not None
    return value.detach(), rows.value, relation.grad


def test_relations_are_predicted_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch):
    whole = predict(model_of(site_of(families()), scoring=transe))
    blocks = []
    score = embedding.scoring.candidate_blocks._score_block
    monkeypatch.setattr(embedding.scoring.candidate_blocks, "_BLOCK_NUMBERS", 6 * 4 * 3)
    monkeypatch.setattr(
        embedding.scoring.candidate_blocks, "_score_block", lambda *given: (blocks.append(given[2]), score(*given))[1]
    )
    for mine, theirs in zip(predict(model_of(site_of(families()), scoring=transe)), whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    assert {block.place.shape[1] for block in blocks} == {2}


def test_reciprocal_relations_are_told_from_those_of_both_ways():
    model = model_of(site_of(families()), scoring=SCORINGS["ComplEx"], reciprocal=True)
    batch = weighted_batch(heads=2)
    entity, relations = model.entity.gather_all(model.entity.weight), model.scorer.relation.detach()
    assert len(relations) == 40
    expected = []
    for i, (head, relation, tail) in enumerate(families().train[100:106].tolist()):
        first, row, second = (tail, relation + 20, head) if i < 2 else (head, relation, tail)
        score = torch.stack([model.scoring.score(entity[first], other, entity[second]) for other in relations])
        expected.append(-0.7 * float(score.log_softmax(0)[row]))
    assert term_of("relation_prediction")(model, batch).tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("relation_prediction", {"weight": 0.0}, "terms.relation_prediction.weight must be positive, got 0.0"),
        ("relation_prediction", {"weight": -1.0}, "terms.relation_prediction.weight must be positive, got -1.0"),
        ("l2", {"weight": -1.0}, "terms.l2.weight must be at least 0, got -1.0"),
        ("n3", {"relation_weight": -0.5}, "terms.n3.relation_weight must be at least 0, got -0.5"),
        ("n3", {"weight": 0.0}, "terms.n3.weight is 0 for entities and relations: leave the term out instead"),
    ],
)
def test_a_bad_weight_is_an_error(name: str, options: dict[str, float], message: str):
    with pytest.raises(InputError, match=f"^{message}"):
        term_of(name, **options)


@pytest.mark.parametrize("name", ["l2", "n3"])
def test_entities_and_relations_have_weights_of_their_own(name: str):
    model, batch = model_of(site_of(families()), scoring=distmult), weighted_batch()
    entities, relations = term_of(name, 1.0, relation_weight=0.0), term_of(name, 0.0, relation_weight=1.0)
    both = term_of(name, 0.3, relation_weight=0.02)(model, batch)
    torch.testing.assert_close(both, 0.3 * entities(model, batch) + 0.02 * relations(model, batch))


@pytest.mark.parametrize("name", ["l2", "n3"])
def test_rows_are_pulled_equally_however_often_train_uses_them(name: str):
    graph = families()
    model, train = model_of(site_of(graph), scoring=distmult), graph.train
    epoch = batch_of(train)
    term_of(name, 1.0, relation_weight=1.0, by_frequency=False)(model, epoch).sum().backward()
    power = 2 if name == "l2" else 3
    rows, found = model.entity.weight, model.entity.take_gradient()
    degree = torch.bincount(train[:, [0, 2]].flatten(), minlength=graph.num_entities)
    mean_degree = 2 * len(train) / int((degree > 0).sum())
    expected = mean_degree * power * rows.abs() ** (power - 1) * rows.sign()
    torch.testing.assert_close(found.value, expected[found.row])
    relation = model.scorer.relation
    assert relation.grad is not None
    expected = len(train) / graph.num_relations * power * relation.abs() ** (power - 1) * relation.sign()
    torch.testing.assert_close(relation.grad, expected.detach())


def test_terms_are_added_to_the_loss():
    model, batch = model_of(site_of(families())), weighted_batch()
    negatives = Negatives(batch.integers("negatives", 3, 128))
    options = {"loss": MarginRanking(3.0), "reward": ScoreReward(), "optimizer": adam}
    terms = [term_of(name) for name in NAMES]
    verdict = Discriminator(model, **options, terms=terms).judge(batch, negatives)
    each = MarginRanking(3.0)(Scores(verdict.positive, verdict.negative)) + sum(term(model, batch) for term in terms)
    torch.testing.assert_close(verdict.loss, batch.share_of_mean(each))


def test_terms_of_a_run_leave_the_generators_pretraining_alone(tmp_path: Path):
    options = ["term=[n3,relation_prediction]", "terms.n3.weight=0.25", "graph.num_people=100", "launch.device=cpu"]
    config = composed("train", "graph=synthetic", "generator=kbgan", *options)
    trainer = build_trainer(build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0)), tmp_path)
    terms = {stage.name: [type(term).__name__ for term in stage.player.terms] for stage in trainer.stages}
    assert terms == {
        "pretrain_generator": [],
        "pretrain_discriminator": ["N3", "RelationPrediction"],
        "adversarial": ["N3", "RelationPrediction"],
    }
    assert trainer.stages[-1].player.terms[0].weight == 0.25
