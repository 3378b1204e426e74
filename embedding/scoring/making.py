"""Makes a model's scoring function from its options."""

from collections.abc import Callable

from embedding.scoring.network import NetworkScoring
from embedding.scoring.scoring import ScoringFunction
from graph.errors import InputError


def query_network(name: str, scoring: ScoringFunction, *, reciprocal: bool) -> NetworkScoring | None:
    """The scoring function, if it makes the queries of a training step once."""
    if not isinstance(scoring, NetworkScoring):
        return None
    if scoring.differs_in_training and not reciprocal:
        raise InputError(
            f"{name}.reciprocal must be true with batch norm or dropout in {type(scoring).__name__}, got False: "
            "its network takes heads and makes queries for tails only"
        )
    return scoring if reciprocal else None


def make_scoring(name: str, scoring: Callable[[int], ScoringFunction], dim: int) -> ScoringFunction:
    """Makes the scoring function; errors about its own options get their config key."""
    try:
        return scoring(dim)
    except InputError as error:
        if str(error).split()[0] not in getattr(scoring, "keywords", {}):  # it is about dim
            raise
        model = "generator.model" if name == "generator" else name
        raise InputError(f"{model}.scoring.{error}") from error
