"""Lines of advice that a run gives: before it begins, and at its end."""

from collections.abc import Mapping, Sequence

from launch.arguments import key_of
from trainer.loop import Trainer

_FEW_STEPS = 10


def about_graph(choices: Mapping[str, str | None], typed: Sequence[str]) -> str | None:
    """What to say of a run on the built-in graph that nobody asked for; None for any other.

    Args:
        choices: the choice of each group of conf/.
        typed: the overrides of the command line.
    """
    named = any(key_of(line).split(".")[0] in ("graph", "experiment", "resume", "grow") for line in typed)
    if named or choices.get("graph") != "synthetic":
        return None
    return (
        "no graph was named, so this is graph=synthetic, a small one that is built in; for your own triples type "
        "graph=folder graph.path=DIR, with the folder that advkge prepare made"
    )


def before_training(trainer: Trainer, batch_size: int | None) -> str | None:
    """What to say of a run that trains nothing, or makes few steps an epoch; None for any other.

    Args:
        batch_size: None if the run itself chose it by the graph, so that there is nothing to advise.
    """
    order = trainer.stages[-1].order
    if trainer.stages[-1].epochs == 0:
        return "trainer.epochs=0: nothing is trained in the last stage, so the results are of the values it begins with"
    if batch_size is None or order.steps_per_epoch >= _FEW_STEPS:
        return None
    steps = "1 step" if order.steps_per_epoch == 1 else f"{order.steps_per_epoch} steps"
    return (
        f"an epoch is only {steps}, because trainer.batch_size={batch_size} is large for this graph; with a smaller "
        "one the model learns more in each epoch"
    )


def after_training(trainer: Trainer) -> str | None:
    """What to say of a run whose last validation is its best; None for any other.

    Early stopping ends a run after validations that were no better, so it never leaves the best one last.
    """
    stage, cursor = trainer.stages[-1], trainer.cursor
    is_best = cursor.best_checkpoint is not None and cursor.best_step == cursor.step
    if not is_best or not stage.had_validation_before(cursor.stage_step):
        return None
    name, value = trainer.validation.metric, cursor.best_value
    return f"validation {name} was still rising: its last value, {value:.4f}, is its best"


def ends_with_its_rate(trainer: Trainer) -> bool:
    """True if the last stage's learning rate has come down: to go on from there would raise it again."""
    stage = trainer.stages[-1]
    return stage.schedule.factor(float(stage.epochs), stage.epochs) < 1
