"""How the learning rate changes over the last stage of a run, one schedule a file."""
