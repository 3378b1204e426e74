"""Where negatives come from: one sampler a file."""
