"""Compiled loops over plain arrays, each beside a plain torch version, and gradients of rows that such a loop sums.

Knows nothing of graphs or models.
"""
