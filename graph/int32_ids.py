"""The limit of int32 entity ids, which large lists, caches and sets of entities use to save half of the memory."""

from graph.errors import InputError
from kernels.shapes import INT32_MAX


def expect_int32_ids(what: str, num_entities: int) -> None:
    """Raises InputError if the graph has more entities than int32 can number.

    Args:
        what: the option that uses int32 ids, such as "generator=eans".
    """
    if num_entities > INT32_MAX + 1:  # ids start at 0
        raise InputError(
            f"{what} keeps entities in int32, which numbers {INT32_MAX + 1}; the graph has {num_entities} entities"
        )
