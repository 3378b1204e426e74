"""Trackers write the metrics of a run: to `metrics.jsonl` always, to others if chosen. Only rank 0 has them."""
