"""Vectors of entities and relations, and what they say of a triple."""
