"""Opens a trained model for what reads its entity rows a block at a time, such as an export."""

from pathlib import Path

from omegaconf import DictConfig

from embedding.model import KGEModel
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from launch.graph_and_model import build_model, build_without_entities
from launch.parts import learns_vectors
from trainer.checkpoint import Checkpointer
from trainer.runtime import Runtime
from trainer.saved_rows import EncodedRows, TrainedRows, open_trained


def open_model(
    config: DictConfig, graph: KnowledgeGraph, checkpoint: Path, runtime: Runtime
) -> tuple[KGEModel, TrainedRows]:
    """A run's trained model, and its entity rows as scores see them.

    Without an encoder, the rows stay in the checkpoint's files, and the model has a table of no entities. With one, all
    rows are needed to make any, so they are in memory.

    Args:
        config: of the run, after `read_graph`.
        checkpoint: a folder whose files have been checked.
        runtime: of one rank.
    Raises:
        InputError: the checkpoint does not fit the config, or is damaged; or the model has no entity rows.
    """
    if not learns_vectors(config.discriminator):
        raise InputError(
            f"{checkpoint.parents[1]}: this model learns no entity vectors, so there are none to export; ask it with "
            "advkge predict, or advkge.load from Python"
        )
    if config.get("encoder") is None:
        model = build_without_entities(config, graph, runtime)
        return model, open_trained(checkpoint, "discriminator", model, graph.num_entities)
    model = build_model(config, graph, runtime, loaded=True)
    Checkpointer(checkpoint.parent, runtime, keep=1).load_trained(checkpoint, {"discriminator": model})
    return model, EncodedRows(model)
