"""Compiled loops over plain arrays, each beside a plain torch version; knows nothing of graphs or models."""
