"""How triples lie in files: one format a file. `recognise.py` says which one a folder has."""
