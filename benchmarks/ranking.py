"""Whole filtered rankings of both sides of a slice of the test split."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int64
from torch import Tensor

from benchmarks.cases import DIMENSION, PRODUCTS, Case
from benchmarks.machine import Limits
from benchmarks.project import compose_case, start
from benchmarks.result import Result, at_reference
from benchmarks.settings import Settings
from benchmarks.timing import in_turns
from launch.build import build_run
from launch.built_run import Run
from trainer.evaluate import RankingEvaluator
from trainer.peak import peak_mb


@dataclass(frozen=True)
class Ranking:
    """What is to be ranked, by an untrained model: it takes as long as a trained one."""

    run: Run
    evaluator: RankingEvaluator
    triples: Int64[Tensor, "T 3"]

    def rank(self) -> None:
        """All of it, once."""
        self.evaluator.evaluate(self.run.discriminator, self.triples)


def make_ranking(case: Case, settings: Settings) -> Ranking:
    """The case's model and the slice."""
    config = compose_case(case, settings.graph)
    run = build_run(config, start(config))
    return Ranking(run, run.evaluator(run.all_known), run.graph.test[: settings.ranked])


def measure(case: Case, settings: Settings, _: Path) -> Result:
    """Rankings between two measurements of sgemm."""
    ranking = make_ranking(case, settings)
    ranking.rank()
    limits = Limits(("sgemm GFLOP/s",), ranking.run.runtime.device)
    limits.measure()
    timing = in_turns([ranking.rank], settings.repeats)[0]
    peak = peak_mb()
    limits.measure()
    rate = len(ranking.triples) / timing.best
    figures = {
        "triples/s": rate,
        "triples/s, median": len(ranking.triples) / timing.median,
        "triples/s at 160 GFLOP/s": at_reference(rate, limits.best),
    }
    if case.model in PRODUCTS:
        flops = 2 * 2 * ranking.run.graph.num_entities * DIMENSION
        figures["share of sgemm"] = 1e-9 * flops * rate / limits.best["sgemm GFLOP/s"]
    return Result(timing, figures, limits.best, peak)
