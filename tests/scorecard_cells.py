"""Folders of a scorecard's cells, as runs leave them."""

import json
from pathlib import Path


def make_cell(
    folder: Path,
    sampler: str,
    seed: int,
    mrr: float | None,
    *,
    discriminator: str = "transe",
    num_negatives: int | None = None,
) -> Path:
    """The folder of a cell, as a run leaves it; one that failed without an MRR."""
    name = sampler if num_negatives is None else f"{sampler}-{num_negatives}"
    cell = folder / "cells" / f"{name}-{discriminator}-synthetic-{seed}"
    cell.mkdir(parents=True)
    record = {"graph": "synthetic", "discriminator": discriminator, "sampler": sampler, "seed": seed, "ranks": 1}
    record |= {"limit": {"budget": 1e6, "epochs": None}, "epochs": 4, "wall_seconds": 2.0, "options": []}
    record |= {} if num_negatives is None else {"num_negatives": num_negatives}
    record["error"] = "no <memory> left" if mrr is None else None
    (cell / "cell.json").write_text(json.dumps(record))
    if mrr is None:
        return cell
    names = ("known_true", "unseen_true", "hidden_true", "hardness", "active", "gradient_norm", "distinct", "entropy")
    lines = []
    for number, step in enumerate((0, 5, 10)):
        line = {"step": step, "epoch": number, "stage": "training", "cost/candidates": 5e5 * number}
        line |= {"cost/seconds": 1.0 * number, "cost/peak_mb": 100.0 + number}
        line |= {f"quality/{name}": 0.1 * number for name in (*names, "coverage", "nce_error")}
        if number:
            line |= {"valid/mrr": mrr * number / 2, "cost/step_seconds": 0.002 * number}
        lines.append(json.dumps(line))
    (cell / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 11, "cut o']))
    metrics = {"both": {"mrr": mrr, "hits@10": 2 * mrr}}
    result = {"valid": metrics, "test": metrics, "seconds": 2.5}
    (cell / "result.json").write_text(json.dumps(result))
    groups = ("generator", "loss", "optimizer", "discriminator", "trainer", "pretrain")
    (cell / "config.yaml").write_text("".join(f"{group}: {{some_option_of_{sampler}: 1}}\n" for group in groups))
    return cell
