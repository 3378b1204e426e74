"""Optimisers against torch's own, and training on many ranks against one."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from embedding import optimizer as optimizer_module
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import DenseAdam, LazyAdam, RowwiseAdagrad
from graph.batch import Batch
from graph.errors import InputError
from graph.sampling import PositiveOrder
from tests.ranks import run_on_ranks
from tests.worlds import graph_of, model_of, site_of
from trainer.runtime import Runtime

ENTITIES, RELATIONS, DIM = 11, 3, 4
OPTIMIZERS: dict[str, Callable[..., ModelOptimizer]] = {
    "dense_adam": lambda model, relation_lr=None, clip_norm=None: DenseAdam(
        model, lr=0.05, relation_lr=relation_lr, beta1=0.8, beta2=0.95, eps=1e-8, weight_decay=0.01, clip_norm=clip_norm
    ),
    "lazy_adam": lambda model, relation_lr=None, clip_norm=None: LazyAdam(
        model, lr=0.05, relation_lr=relation_lr, beta1=0.8, beta2=0.95, eps=1e-14, clip_norm=clip_norm
    ),
    "rowwise_adagrad": lambda model, relation_lr=None, clip_norm=None: RowwiseAdagrad(
        model, lr=0.05, relation_lr=relation_lr, eps=1e-10, clip_norm=clip_norm
    ),
}
CLIPS = (None, 1.5)
"""The second is shorter than some gradients of rows here and longer than others."""

TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-13}, torch.float32: {"rtol": 1e-6, "atol": 1e-7}}


def test_no_optimizer_is_left_out() -> None:
    kinds = {kind for _, kind in inspect.getmembers(optimizer_module, inspect.isclass) if not inspect.isabstract(kind)}
    found = {kind for kind in kinds if issubclass(kind, ModelOptimizer)}
    assert found == {type(make(tiny_model())) for make in OPTIMIZERS.values()}


def tiny_model(
    runtime: Runtime | None = None,
    max_norm: float | None = None,
    dtype: torch.dtype = torch.float64,
    storage: str = "memory",
) -> KGEModel:
    graph = graph_of([(e, e % RELATIONS, (e + 1) % ENTITIES) for e in range(ENTITIES)], ENTITIES, RELATIONS)
    return model_of(site_of(graph, runtime, dtype=dtype, storage=storage), dim=DIM, max_norm=max_norm)


def batches(steps: int) -> list[Batch]:
    train = torch.tensor([(e, e % RELATIONS, (e * 3 + 1) % ENTITIES) for e in range(ENTITIES)])
    half = torch.full((RELATIONS,), 0.5, dtype=torch.float64)
    # 5 positives a step, and 1 in the last of an epoch: more than one rank has none then.
    order = PositiveOrder(train, half, batch_size=5, chunk_size=1, sides="one", seed=1)
    return [order.batch(step) for step in range(steps)]


def loss_of(model: KGEModel, batch: Batch) -> Tensor:
    positive, negative = model.score(batch, batch.integers("negatives", 3, ENTITIES))
    return batch.share_of_mean((2.0 - positive[:, None] + negative).square().mean(1))


def all_parameters(model: KGEModel) -> Tensor:
    rows = model.entity.gather_all(model.entity.weight.detach())
    return torch.cat([rows.double().flatten(), model.scorer.relation.detach().flatten()])


def train_on_rank(
    rank: int, world_size: int, storage: str, name: str, dtype: torch.dtype, clip: float | None
) -> Tensor:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    model = tiny_model(runtime, max_norm=1.0, dtype=dtype, storage=storage)
    optimizer = OPTIMIZERS[name](model, clip_norm=clip)
    for batch in batches(9):
        loss_of(model, runtime.share(batch)).backward()
        optimizer.step()
    if storage == "replicated":
        in_order = model.entity.readable[model.entity.row_of_entity]
        assert torch.equal(in_order, model.entity.gather_all(model.entity.weight))
    return all_parameters(model)


CASES = [(name, dtype, clip) for name in OPTIMIZERS for dtype in TOLERANCE for clip in CLIPS]


@cache  # one rank's is compared with two and with three
def train_all(rank: int, world_size: int, storage: str = "memory") -> list[Tensor]:
    return [train_on_rank(rank, world_size, storage, *case) for case in CASES]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory", "replicated"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_training_is_the_same_on_any_number_of_ranks(world_size: int, storage: str) -> None:
    alone = train_all(0, 1)
    for found in run_on_ranks(world_size, train_all, storage):
        for case, mine, expected in zip(CASES, found, alone, strict=True):
            torch.testing.assert_close(mine, expected, **TOLERANCE[case[1]], msg=partial(named, f"{case}"))


def named(case: str, message: str) -> str:
    return f"{case}: {message}"


def clipped(rows: Tensor, longest: float) -> Tensor:
    return torch.stack([row * min(1.0, longest / max(float(row.norm()), 1e-30)) for row in rows])


def reference_steps(name: str, steps: int, clip: float | None) -> Tensor:
    """The same training with a plain table, autograd and torch's optimisers."""
    model = tiny_model()
    rows = model.entity.gather_all(model.entity.weight.detach()).clone().requires_grad_()
    relation = model.scorer.relation.detach().clone().requires_grad_()
    # SparseAdam adds eps before the bias correction and Adam after it, so it must not matter here.
    adam = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-14 if name == "lazy_adam" else 1e-8}
    square_sum = torch.zeros(ENTITIES, 1, dtype=torch.float64)
    match name:
        case "dense_adam":
            steppers = [torch.optim.Adam([rows, relation], weight_decay=0.01, **adam)]
        case "lazy_adam":
            steppers = [torch.optim.SparseAdam([rows], **adam), torch.optim.Adam([relation], **adam)]
        case _:
            steppers = [torch.optim.Adagrad([relation], lr=0.05, eps=1e-10)]
    for batch in batches(steps):
        entity = batch.integers("negatives", 3, ENTITIES)
        head, tail, r = rows[batch.head], rows[batch.tail], relation[batch.relation]
        positive = -(head + r - tail).abs().sum(1)
        heads = -(rows[entity] + r[:, None] - tail[:, None]).abs().sum(2)
        tails = -(head[:, None] + r[:, None] - rows[entity]).abs().sum(2)
        first = torch.arange(len(head)) < batch.head_rows
        negative = torch.where(first[:, None], heads, tails)
        (2.0 - positive[:, None] + negative).square().mean().backward()
        assert rows.grad is not None and relation.grad is not None
        if clip is not None:
            norms = torch.cat([rows.grad, relation.grad]).norm(dim=1)
            assert (norms > clip).any() and ((norms > 0) & (norms < clip)).any()
            rows.grad, relation.grad = clipped(rows.grad, clip), clipped(relation.grad, clip)
        touched = torch.cat([batch.head, batch.tail, entity.flatten()]).unique()
        if name == "lazy_adam":
            rows.grad = torch.sparse_coo_tensor(touched[None], rows.grad[touched], rows.shape).coalesce()
        if name == "rowwise_adagrad":
            gradient = rows.grad[touched]
            square_sum[touched] += gradient.square().mean(1, keepdim=True)
            with torch.no_grad():
                rows[touched] -= 0.05 * gradient / (square_sum[touched].sqrt() + 1e-10)
        for stepper in steppers:
            stepper.step()
        rows.grad = relation.grad = None
    return torch.cat([rows.detach().flatten(), relation.detach().flatten()])


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_torch(name: str, clip: float | None) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS[name](model, clip_norm=clip)
    for batch in batches(7):
        loss_of(model, batch).backward()
        optimizer.step()
    torch.testing.assert_close(all_parameters(model), reference_steps(name, 7, clip), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stopped_after", [0, 4])
def test_a_restored_optimizer_goes_on_as_if_never_stopped(name: str, stopped_after: int) -> None:
    model, restored = tiny_model(), tiny_model()
    optimizer = OPTIMIZERS[name](model)
    steps = batches(8)
    for batch in steps[:stopped_after]:
        loss_of(model, batch).backward()
        optimizer.step()
    with torch.no_grad():
        restored.entity.weight.copy_(model.entity.weight)
        restored.scorer.relation.copy_(model.scorer.relation)
    other = OPTIMIZERS[name](restored)
    other.load_dense_state({key: deepcopy(value) for key, value in optimizer.dense_state().items()})
    for key, value in optimizer.row_state.items():
        other.row_state[key].copy_(value)
    for batch in steps[stopped_after:]:
        for player, stepper in ((model, optimizer), (restored, other)):
            loss_of(player, batch).backward()
            stepper.step()
    assert torch.equal(all_parameters(model), all_parameters(restored))


def test_lazy_adams_eps_is_adams() -> None:
    # With every row touched at every step, lazy Adam is Adam; an eps so large that its place matters.
    ids, target = torch.arange(ENTITIES), torch.linspace(-1, 1, ENTITIES, dtype=torch.float64)[:, None]
    options = {"lr": 0.05, "eps": 0.1}
    model = tiny_model()
    optimizer = LazyAdam(model, relation_lr=None, beta1=0.8, beta2=0.95, clip_norm=None, **options)
    rows = model.entity(ids).detach().requires_grad_()
    reference = torch.optim.Adam([rows], betas=(0.8, 0.95), **options)
    for _ in range(5):
        (model.entity(ids) - target).square().sum().backward()
        optimizer.step()
        reference.zero_grad()
        (rows - target).square().sum().backward()
        reference.step()
    torch.testing.assert_close(model.entity(ids), rows, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["lazy_adam", "rowwise_adagrad"])
def test_rows_that_a_step_does_not_touch_stay(name: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS[name](model)
    for ids in (torch.arange(ENTITIES), torch.tensor([4, 7])):  # all have momentum, then only two are touched
        before = model.entity.weight.detach().clone()
        model.entity(ids).square().sum().backward()
        optimizer.step()
    moved = (model.entity.weight.detach() != before).any(1)
    assert sorted(model.entity.entity[moved].tolist()) == [4, 7]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_stay_in_the_ball(name: str) -> None:
    model = tiny_model(max_norm=0.5)
    optimizer = OPTIMIZERS[name](model)
    for batch in batches(5):
        loss_of(model, batch).backward()
        optimizer.step()
        for rows in (model.entity.weight, model.scorer.relation):
            assert rows.norm(dim=1).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda m: RowwiseAdagrad(m, lr=0.0, relation_lr=None, eps=1e-10, clip_norm=None),
            "optimizer.lr must be a positive number, got 0.0",
        ),
        (
            lambda m: RowwiseAdagrad(m, lr=0.1, relation_lr=None, eps=1e-10, clip_norm=0.0),
            "optimizer.clip_norm must be a positive number or null, got 0.0",
        ),
        (
            lambda m: LazyAdam(m, lr=0.1, relation_lr=None, beta1=1.0, beta2=0.9, eps=1e-8, clip_norm=None),
            r"optimizer.beta1 must be in \[0, 1\), got 1.0",
        ),
        (
            lambda m: DenseAdam(
                m, lr=0.1, relation_lr=None, beta1=0.9, beta2=-0.1, eps=1e-8, weight_decay=0.0, clip_norm=None
            ),
            r"optimizer.beta2 must be in \[0, 1\), got -0.1",
        ),
        (
            lambda m: RowwiseAdagrad(m, lr=0.1, relation_lr=None, eps=0.0, clip_norm=None),
            "optimizer.eps must be positive, got 0.0",
        ),
        (
            lambda m: LazyAdam(m, lr=0.1, relation_lr=None, beta1=0.9, beta2=0.9, eps=-1e-8, clip_norm=None),
            "optimizer.eps must be positive, got -1e-08",
        ),
        (
            lambda m: DenseAdam(
                m, lr=0.1, relation_lr=None, beta1=0.9, beta2=0.9, eps=0.0, weight_decay=0.0, clip_norm=None
            ),
            "optimizer.eps must be positive, got 0.0",
        ),
        (
            lambda m: DenseAdam(
                m, lr=0.1, relation_lr=None, beta1=0.9, beta2=0.9, eps=1e-8, weight_decay=-1.0, clip_norm=None
            ),
            "optimizer.weight_decay must be at least 0, got -1.0",
        ),
    ],
)
def test_bad_options_are_named(make: Callable[[KGEModel], ModelOptimizer], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(tiny_model())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_factor_and_relations_own_rate(name: str):
    """One step with half the rate, and relations at a third of theirs, moves rows and relations by as much less."""
    moved = {}
    for case, options, factor in (("plain", {}, 1.0), ("half", {}, 0.5), ("apart", {"relation_lr": 0.05 / 3}, 1.0)):
        model = tiny_model()
        optimizer = OPTIMIZERS[name](model, **options)
        before = model.entity.weight.detach().clone(), model.scorer.relation.detach().clone()
        loss_of(model, batches(1)[0]).backward()
        optimizer.step(lr_factor=factor)
        moved[case] = model.entity.weight.detach() - before[0], model.scorer.relation.detach() - before[1]
    torch.testing.assert_close(moved["half"][0], moved["plain"][0] / 2)
    torch.testing.assert_close(moved["half"][1], moved["plain"][1] / 2)
    torch.testing.assert_close(moved["apart"][0], moved["plain"][0])
    torch.testing.assert_close(moved["apart"][1], moved["plain"][1] / 3)


@pytest.mark.parametrize(("lr", "relation_lr"), [(0.05, 0.0), (0.05, float("nan")), (0.05, float("inf"))])
def test_a_bad_rate_of_relations_is_named(lr: float, relation_lr: float):
    with pytest.raises(InputError, match=rf"optimizer.relation_lr must be a positive number, got {relation_lr}"):
        RowwiseAdagrad(tiny_model(), lr=lr, relation_lr=relation_lr, eps=1e-10, clip_norm=None)
