"""Negative samplers: each file holds one way to choose the entities that corrupt a positive."""
