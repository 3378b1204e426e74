"""Compiled C++ loops over arrays, with plain torch versions for where they cannot be used, and gradients of table rows.

This package does not depend on graphs or models.
"""
