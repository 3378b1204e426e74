"""Losses of positives against negatives, one a file."""
