"""A sign that columns were read in a wrong order: entities in the place of relations, each of which occurs seldom."""

from graph.knowledge_graph import KnowledgeGraph

_FEWEST_RELATIONS = 10
_TRIPLES_OF_EACH = 10
"""Triples a relation from which on nothing is said: nations has 55 relations of 14 entities, and 29 triples of each."""


def doubt_of_columns(graph: KnowledgeGraph) -> str | None:
    """What to say of a graph whose relations look like entities; None for any other.

    Relations look like entities if there are more of them than different heads or different tails, or if most occur
    once, and a relation has few triples.
    """
    train, relations = graph.train, graph.num_relations
    if relations < _FEWEST_RELATIONS or len(train) >= _TRIPLES_OF_EACH * relations:
        return None
    once = int((train[:, 1].long().bincount(minlength=relations) == 1).sum())
    sides = {"heads": len(train[:, 0].unique()), "tails": len(train[:, 2].unique())}
    few = min(sides, key=lambda side: sides[side])
    if 2 * once > relations:
        seen = f"{once:,} of the {relations:,} relations occur once"
    elif relations > sides[few]:
        seen = f"there are more relations ({relations:,}) than different {few} ({sides[few]:,})"
    else:
        return None
    return f"{seen}: if the columns are not head, relation, tail, say their order, as in graph.columns=htr"
