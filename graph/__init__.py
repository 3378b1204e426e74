"""The data: triples, which answers are true, what is known of a relation, and what travels through a step."""
