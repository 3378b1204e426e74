"""Scoring functions, one in each file: how plausible a triple is."""
