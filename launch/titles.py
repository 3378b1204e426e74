"""What a run is called where many runs are shown together, as on wandb's pages."""

from collections.abc import Mapping
from pathlib import Path

from trainer.tracking.tracker import Title

_NAMED = ("discriminator", "generator", "graph")
_TAGGED = (*_NAMED, "loss")


def title_of(choices: Mapping[str, str | None], folder: Path, *, seed: int, job_type: str) -> Title:
    """A title made of what was chosen from the groups of conf/.

    Args:
        choices: the choice of each group, as hydra has them.
        folder: the run folder. A run in the folder of a sweep gets the name of that folder as its group.
        seed: the seed of the run, which ends its name.
        job_type: the command, such as "train".

    Example: "rotate kbgan umls seed 0", tagged rotate, kbgan, umls and margin_ranking; an experiment's name stands in
    place of the first three.
    """
    experiment = choices.get("experiment")
    named = [experiment] if experiment else [str(choices[group]) for group in _NAMED if choices.get(group)]
    return Title(
        name=" ".join([*named, f"seed {seed}"]),
        group=folder.parent.name if (folder.parent / "multirun.yaml").is_file() else None,
        job_type=job_type,
        tags=tuple(str(choices[group]) for group in _TAGGED if choices.get(group)),
    )
