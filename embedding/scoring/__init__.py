"""Scoring functions: how plausible a triple is, one function a file."""
