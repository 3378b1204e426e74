"""Scoring functions that read the edges of train and learn no vector of an entity, one a file."""
