"""Losses, one in each file. They compare positives with negatives, or with all entities."""
