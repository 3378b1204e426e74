"""Entity ids in int32, half of what they take elsewhere: what large lists, caches and sets of entities are kept in."""

from graph.errors import InputError
from kernels.shapes import INT32_MAX


def expect_int32_ids(what: str, num_entities: int) -> None:
    """Refuses a graph with more entities than int32 can number.

    Args:
        what: the option whose lists, caches or sets these are, such as "generator=eans".
    """
    if num_entities > INT32_MAX + 1:  # the first is 0
        raise InputError(
            f"{what} keeps entities in int32, which numbers {INT32_MAX + 1}; the graph has {num_entities} entities"
        )
