"""The data: reading triples, known answers of queries, statistics of relations, and the batches of a training step."""
