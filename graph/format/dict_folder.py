"""Folders whose train, valid and test files lie beside lists of all entities and relations with their ids.

RotatE's (https://github.com/DeepGraphLearning/KnowledgeGraphEmbedding) have triples of names, DGL-KE's `udd_hrt`,
`udd_htr` ... (https://github.com/awslabs/dgl-ke) triples of ids. Their files have the same names, so what the triples
say decides; `graph.columns` is DGL-KE's order.
"""

from dataclasses import replace

from graph.format.text import TEXT

_DICTIONARIES = [
    ("entities.dict", "relations.dict"),
    ("entities.tsv", "relations.tsv"),
    ("entity2id.txt", "relation2id.txt"),
]

ROTATE = replace(TEXT, name="rotate", title="RotatE's names with .dict files", dictionaries=_DICTIONARIES, by_id=False)
DGLKE = replace(TEXT, name="dglke", title="DGL-KE's ids with .dict files", dictionaries=_DICTIONARIES, by_id=True)
