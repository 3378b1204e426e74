"""Encoders: what makes the rows that scoring sees from learned rows and the edges of train, one encoder a file."""
