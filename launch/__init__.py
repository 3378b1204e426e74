"""Commands: what a user starts."""
