import torch

from graph.keys import FactKeys, QueryKeys
from graph.known import KnownTriples
from tests.worlds import batch_of, families

TRAIN = families().train
KNOWN = KnownTriples.of(torch.cat([TRAIN, TRAIN[:50]]), families().num_entities, families().num_relations)


def test_positives_share_a_query_key_exactly_where_they_ask_the_same():
    keys = QueryKeys(KNOWN)
    triples = TRAIN.tolist()
    heads = len(triples) // 2
    key = keys.of(batch_of(TRAIN, heads=heads)).tolist()
    asked = [("heads of", r, t) if row < heads else ("tails of", h, r) for row, (h, r, t) in enumerate(triples)]
    assert len(set(zip(key, asked, strict=True))) == len(set(key)) == len(set(asked))
    assert min(key) >= 0 and max(key) < keys.num_keys
    both = torch.cat([keys.of(batch_of(TRAIN, heads=count)) for count in (0, len(TRAIN))])
    assert both.unique().equal(torch.arange(keys.num_keys))


def test_each_side_of_each_fact_has_a_key_and_comes_back_from_it():
    keys = FactKeys(KNOWN)
    assert keys.num_keys == 2 * len(TRAIN)
    key = torch.arange(keys.num_keys)[5::7]
    batch = keys.batch(key)
    assert keys.of(batch).equal(key)
    assert len(batch.head) == len(key)
    assert batch.head_rows == int((key < len(TRAIN)).sum())
    facts = set(map(tuple, TRAIN.tolist()))
    assert set(zip(batch.head.tolist(), batch.relation.tolist(), batch.tail.tolist(), strict=True)) <= facts


def test_no_keys_are_no_facts():
    keys = FactKeys(KNOWN)
    assert len(keys.of(keys.batch(torch.arange(0)))) == 0
