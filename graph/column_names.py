"""Usual names of the columns of head, relation and tail, as a header or a Parquet file has them."""

from collections.abc import Sequence

USUAL = {
    "h": {
        *("h", "head", "head_id", "s", "subj", "subject", "source", "source_id", "src", "from", "start"),
        *("entity1", "entity_1", "node1", "node_1"),
    },
    "r": {
        *("r", "rel", "relation", "relation_id", "relationship", "p", "pred", "predicate", "property", "edge"),
        *("edge_type", "label", "link", "metaedge"),
    },
    "t": {
        *("t", "tail", "tail_id", "o", "obj", "object", "target", "target_id", "dst", "to", "end", "value"),
        *("entity2", "entity_2", "node2", "node_2"),
    },
}
"""By h, r and t, as in graph.columns; in lower case."""


def are_usual(words: Sequence[str]) -> bool:
    """Whether three words are usual names of a head, a relation and a tail, in any order."""
    return sorted(map(_letter, words)) == ["h", "r", "t"]


def order_of(words: Sequence[str]) -> str | None:
    """The order of the columns that three words name, such as "htr"; None if they don't say it.

    One of the words may be unknown: it names what the others do not.

    Example: `order_of(["Subject", "Object", "Predicate"])` is "htr", and so is `order_of(["film", "target", "edge"])`.
    """
    order = "".join(map(_letter, words))
    [lacking, *more] = [letter for letter in "hrt" if letter not in order] or [""]
    order = order.replace("?", lacking)
    return order if sorted(order) == ["h", "r", "t"] and not more else None


def _letter(word: str) -> str:
    plain = word.strip().strip('":?<>').lower()
    return next((letter for letter, names in USUAL.items() if plain in names), "?")


def in_words(order: str) -> str:
    """An order such as "htr" in words."""
    names = {"h": "head", "r": "relation", "t": "tail"}
    return ", ".join(names[letter] for letter in order)
