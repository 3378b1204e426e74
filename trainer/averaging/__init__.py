"""Averages of a model's weights over the steps of the last stage, one average a file."""
