"""Compiles every Triton kernel for GPUs that need not be there, and prints what each takes: a line of JSON for each.

A process of its own, because Triton's interpreter can't be switched off again: `python -m tests.kernels.gpu.compiled`.
"""

import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.gpu import contrast, counter_random, draws, filtered_counts, known, means, pairs, queries, rows, updates
from kernels.pairs import Comparison

NEWEST = 90
"""H100. What is compiled for A100 and B200 is a part."""
OTHERS = (80, 100)
FLOAT, DOUBLE, WORD, HALF_WORD = "*fp32", "*fp64", "*i64", "*i32"
_INTEGERS = {"size", "candidates", "width", "pool", "draws", "rows", "stride", "first", "total", "count"}
_INTEGERS |= {"queries", "ranges", "negatives", "places", "head_rows", "sharing"}
_WORDS = {"stream", "high", "margin", "temperature", "lr", "eps", "bound", "rate", "root", "beta1", "beta2", "decay"}
_WORDS |= {"divisor"}
_PLACES = {"place", "target", "outer", "pick", "order", "begin", "end", "row", "source_of", "row_of_entity"}


def kernels() -> Iterator[tuple[str, Any, dict[str, Any], dict[str, str]]]:
    """Name, kernel, its compile-time arguments, and the types of arguments whose names do not tell."""
    blocks = {"N": pairs._OTHERS, "S": pairs._OTHERS}
    for kind, name in enumerate(("dot", "l1", "l2", "modulus")):
        for kernel in (pairs._pair_scores, pairs._query_gradient, pairs._candidate_gradient):
            numbers = pairs._NUMBERS // 2 if kernel is pairs._pair_scores else pairs._NUMBERS
            yield f"{kernel.__name__[1:]} {name}", kernel, {"KIND": kind, "E": numbers} | blocks, {}
        numbers = contrast.numbers_of_block(Comparison(name), 256)
        for softmax in (True, False):
            options = {"KIND": kind, "SOFTMAX": softmax, "MASKED": True, "N": 256, "E": numbers}
            kernel = contrast._weigh if name == "dot" else contrast._contrast
            if name == "dot":
                options |= {"E": contrast._NUMBERS_OF_ONE}
            of_loss = f"contrast {name} {'softmax' if softmax else 'self_adversarial'}"
            yield of_loss, kernel, options, dict.fromkeys(("weight", "losses"), DOUBLE)
    for uniform in (False, True):
        out = {"out": DOUBLE if uniform else WORD}
        yield f"random {'uniform' if uniform else 'integers'}", counter_random._random, _random_options(uniform), out
        there = {**out, "stream": WORD}
        yield f"random of a repeated step {uniform}", counter_random._random, _random_options(uniform), there
    pool = {"M": 256, "D": draws._DRAWS}
    yield "draw", draws._draw, pool, {"uniform": DOUBLE, "candidate": WORD, "entity": WORD}
    yield "sampled policy gradient", draws._sampled, pool, {}
    yield "exact policy gradient", draws._exact, pool, {}
    for of, name in enumerate(("queries", "entity gradient", "relation gradient")):
        types = {"relation": WORD, "right": FLOAT if name == "relation gradient" else DOUBLE}
        yield f"{name} rotation", queries._combine, {"KIND": 2, "OF": of, "E": queries._NUMBERS}, types
    there = {"relation": WORD, "right": DOUBLE, "head_rows": WORD}
    yield "queries of a repeated step", queries._combine, {"KIND": 2, "OF": 0, "E": queries._NUMBERS}, there
    for offset in (HALF_WORD, WORD):
        lists = {"query": WORD, "offset": offset, "answer": HALF_WORD, "entity": WORD}
        yield f"mask known {offset[1:]}", known._mask_known, {"N": 256}, lists
    ranking = {"rows": "i32", "answer": HALF_WORD, "out": WORD}
    yield "filtered counts", filtered_counts._count, {"BLOCK": filtered_counts._BLOCK}, ranking
    scalars = {"factor": DOUBLE, "weight": DOUBLE}
    yield "weighted mean", means._mean, {"N": means._NUMBERS}, scalars | {"out": DOUBLE}
    yield "divided weights", means._divided, {"N": means._NUMBERS, "SCALED": True}, scalars
    yield "sum rows", rows._sum, {"E": rows._NUMBERS}, {}
    yield "sum few rows", rows._sum_few, {"N": rows._PLACES, "E": rows._OF_FEW}, {"out": DOUBLE}
    of_numbers = {"E": updates._NUMBERS, "GUARDED": True}
    yield "adagrad", updates._adagrad, of_numbers, dict.fromkeys(("weight", "square_sum", "gradient"), DOUBLE)
    there = dict.fromkeys(("weight", "square_sum", "gradient", "lr"), DOUBLE)
    yield "adagrad of a repeated step", updates._adagrad, of_numbers, there
    yield "clip", updates._clip, {"ENDS": (200,), "E": 256, "GUARDED": True}, {"rows": DOUBLE}
    for ends in ((), (200,)):
        clip, options = " clipped" if ends else "", {"ENDS": ends, "E": 256, "GUARDED": True, "SUMMED": False}
        yield f"rowwise adagrad{clip}", updates._rowwise_adagrad, options, {"row": "*i16"}
        yield f"adam{clip}", updates._adam, {**options, "EVERYWHERE": False}, {"row": HALF_WORD}
        there = {"row": "*i16", "lr": DOUBLE}
        yield f"rowwise adagrad of a repeated step{clip}", updates._rowwise_adagrad, options, there
        there = {"row": HALF_WORD, "rate": DOUBLE, "root": DOUBLE}
        yield f"adam of a repeated step{clip}", updates._adam, {**options, "EVERYWHERE": False}, there
    summing = {**options, "SUMMED": False, "EVERYWHERE": True}
    yield "adam everywhere that sums", updates._adam, summing, {"row": HALF_WORD}
    yield "adam everywhere", updates._adam, {**options, "ENDS": (), "SUMMED": True, "EVERYWHERE": True}, {}


def _random_options(uniform: bool) -> dict[str, Any]:
    return {"UNIFORM": uniform, "BLOCK": counter_random._BLOCK}


def _type(name: str) -> str:
    if name in _INTEGERS:
        return "i32"
    if name in _WORDS:
        return "i64"
    if name in ("known", "good"):
        return "*u8"
    return WORD if name in _PLACES else FLOAT


def compiled(
    name: str, kernel: Any, constants: dict[str, Any], types: dict[str, str], capability: int
) -> dict[str, Any]:
    """What a kernel takes on a GPU."""
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    if "rows" in kernel.arg_names and "rows" not in types:
        types = {"rows": FLOAT} | types
    signature = {each: "constexpr" if each in constants else types.get(each, _type(each)) for each in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4, "enable_fp_fusion": True}
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", text)}
    return {"kernel": name, "capability": capability, **found}


def main() -> None:
    """Compiles all, the newest first."""
    warnings.simplefilter("ignore")
    for name, *rest in kernels():
        some = OTHERS if name.endswith((" l1", "l1 softmax", "draw", "counts", "rows", "adam", "integers")) else ()
        for capability in (NEWEST, *some):
            print(json.dumps(compiled(name, *rest, capability)))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
