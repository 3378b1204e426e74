"""File formats of triples, one Python file for each. `recognise.py` finds the format of a folder."""
