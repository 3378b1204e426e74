"""The panels of a wandb dashboard: generator, discriminator, negatives, and speed, for all runs of a project."""

from typing import Any

from graph.errors import InputError

STEP = "trainer/step"
PANELS: dict[str, dict[str, tuple[str, ...]]] = {
    "Discriminator": {
        "Validation MRR": ("valid/both/mrr", "valid_sample/both/mrr"),
        "Validation Hits@10": ("valid/both/hits@10", "valid_sample/both/hits@10"),
        "Loss": ("train/loss",),
        "Scores of positives and negatives": ("train/positive_score", "train/negative_score"),
        "Learning rate": ("train/lr",),
        "MRR of heads and tails": ("valid/head/mrr", "valid/tail/mrr"),
    },
    "Generator": {
        "Reward": ("generator/reward",),
        "Entropy of the draws, in nats": ("generator/entropy",),
        "Log-probability of the true entity": ("generator/target_log_prob",),
        "Share of caches replaced (NSCaching)": ("generator/cache_replaced",),
        "Share of hard negatives (curriculum)": ("generator/hard_share",),
        "MRR of the generator's own model": ("pretrain_generator/valid/both/mrr",),
    },
    "Negatives": {
        "Facts of train among the negatives": ("negatives/known_true",),
        "Facts of valid or test among the negatives": ("negatives/held_out_true",),
        "Hidden facts among the negatives (built-in graph)": ("negatives/hidden_true",),
    },
    "Speed": {
        "Positives a second": ("speed/triples_per_second",),
        "Seconds of training": ("speed/seconds",),
        "Peak memory in MB": ("cost/peak_mb",),
        "Cores in use, by rank": ("usage/rank_0/cores", "usage/rank_1/cores", "usage/rank_2/cores"),
        "Memory in MB, by rank": ("usage/rank_0/memory_mb", "usage/rank_1/memory_mb", "usage/rank_2/memory_mb"),
    },
}
"""Metrics by section and panel. A panel whose metrics no run has stays empty."""


def dashboard(entity: str, project: str, name: str) -> Any:
    """A workspace of wandb with a section for each part of a run; `save()` on it writes it to the server.

    Args:
        entity: the user or team that owns the project.
    Raises:
        InputError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        from wandb_workspaces import workspaces
    except ImportError as error:
        raise InputError(
            "the dashboard needs wandb-workspaces, which is not installed; type: pip install wandb-workspaces"
        ) from error
    sections = [
        workspaces.Section(
            name=section,
            panels=[
                panels.LinePlot(title=title, x=STEP, y=list(metrics), title_x="training step")
                for title, metrics in plots.items()
            ],
            is_open=True,
        )
        for section, plots in PANELS.items()
    ]
    return workspaces.Workspace(entity=entity, project=project, name=name, sections=sections)
