"""Writes a trained model in the formats of other tools, one format in each file."""
