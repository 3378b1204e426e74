"""Decides whether a GPU may repeat the steps of a stage as one CUDA graph. Nothing else decides this."""

from discriminator.loss.table_loss import TableLoss
from embedding.model import KGEModel
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError
from graph.sampling import Sides
from kernels.gpu.available import usable_on_gpu
from trainer.runtime import Runtime
from trainer.stage import Stage


def repeats_steps(asked: bool | None, stage: Stage, runtime: Runtime, *, observed: bool) -> bool:
    """Whether the steps of a stage are repeated as a graph: if it is possible, and not asked otherwise.

    Args:
        asked: `trainer.cuda_graph`; None: wherever it is possible.
        observed: whether observers count what each step does.
    Raises:
        InputError: it is asked for, and is not possible.
    """
    if asked is False:
        return False
    reason = why_not_repeated(stage, runtime, observed=observed)
    if asked and reason is not None:
        raise InputError(
            f"trainer.cuda_graph is true, but steps of the {stage.name} stage can't be repeated as a CUDA graph, "
            f"because {reason}; take null, which uses a graph where that is possible, or false"
        )
    return reason is None


def why_not_repeated(stage: Stage, runtime: Runtime, *, observed: bool) -> str | None:
    """The reason why steps can't be repeated, as the end of a sentence "..., because"; None if they can."""
    player, sampler = stage.player, stage.sampler
    models = [player.model, *([] if sampler.model is None else [sampler.model])]
    return (
        _why_not_run(stage, runtime, observed)
        or _why_not_player(stage)
        or next((reason for model in models if (reason := _why_not_model(model)) is not None), None)
        or _why_not_sides(stage, models)
    )


def _why_not_run(stage: Stage, runtime: Runtime, observed: bool) -> str | None:
    if runtime.device.type == "cpu":
        return "the run is on the CPU"
    if runtime.world_size > 1:
        return f"it has {runtime.world_size} ranks, and exchanges between ranks are not recorded"
    if observed:
        return "quality=sampled counts on the host what each step scores"
    if stage.order.device.type == "cpu":
        return "with trainer.subsampling or tables on disk, batches are made on the CPU"
    return None


def _why_not_player(stage: Stage) -> str | None:
    player, sampler = stage.player, stage.sampler
    if isinstance(player.loss, TableLoss):
        return f"the loss {type(player.loss).__name__} compares positives with all entities"
    if player.terms:
        return f"the loss has terms, such as {type(player.terms[0]).__name__}"
    if sampler.learns and player.reward.depends_on_step:
        return f"the reward {type(player.reward).__name__} changes from step to step"
    if not sampler.repeats:
        return f"{type(sampler).__name__} does other things in each step with these options"
    return None


def _why_not_model(model: KGEModel) -> str | None:
    if model.encoding is not None or not model.has_vectors:
        return f"the rows of the {model.name} are made anew in each step"
    if model.has_network or model.dropout.entity or model.dropout.relation:
        return f"the {model.name} has a network or dropout between rows and scores"
    if model.entity.rounding is not None:
        return f"the {model.name}'s rows are in bfloat16, and the host counts those that a step looks up"
    if model.frozen is not None:
        return f"some rows of the {model.name} are frozen"
    return None


def _why_not_sides(stage: Stage, models: list[KGEModel]) -> str | None:
    """With `Sides.ONE`, batches differ in how many positives have their head corrupted: no slice may depend on it."""
    if stage.order.sides == Sides.BOTH:
        return None
    for model in models:
        kernel = isinstance(model.scoring, QueryScoring) and model.scoring.combination is not None
        if not model.reciprocal and not (kernel and usable_on_gpu(model.entity.like)):
            return (
                f"trainer.sides is one, so that batches differ in their sides, and the {model.name} has no kernel that "
                "makes queries for both, for which it needs Triton; trainer.sides=both needs none"
            )
    return None
