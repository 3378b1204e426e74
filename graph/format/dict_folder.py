"""RotatE's and DGL-KE's folders: train, valid and test files beside lists of all entities and relations with ids.

RotatE (https://github.com/DeepGraphLearning/KnowledgeGraphEmbedding) has triples of names. DGL-KE's `udd_hrt`,
`udd_htr` ... (https://github.com/awslabs/dgl-ke) have triples of ids, in the order that `graph.columns` gives. The
files have the same names, so the content of the triples decides between the two.
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
