"""The score of one triple by each scoring function that is shipped, in numpy, written from its paper.

By the name of its yaml. A formula takes the parts of the rows of head, relation and tail, and the model: options and
dense parameters by name, as `launch/export.py` writes them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Parts = Mapping[str, Array]
Formula = Callable[[Parts, Parts, Parts, Mapping[str, Any]], float]


def as_complex(row: Array) -> Array:
    real, imaginary = np.split(row, 2)
    return real + 1j * imaginary


def transe(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    return -(sum(abs(h["entity"] + r["relation"] - t["entity"]) ** model["norm"]) ** (1 / model["norm"]))


def transd(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    def mapped(e: Parts) -> Parts:
        matrix = np.outer(r["relation_transfer"], e["entity_transfer"]) + np.eye(len(e["entity"]))
        return {"entity": matrix @ e["entity"]}

    return transe(mapped(h), r, mapped(t), model)


def transh(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    w = r["relation_normal"] / np.sqrt(sum(r["relation_normal"] ** 2))
    head, tail = (e["entity"] - np.dot(w, e["entity"]) * w for e in (h, t))
    return -sum((head + r["relation"] - tail) ** 2)


def transr(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    matrix = r["relation_matrix"].reshape(model["relation_dim"], -1)
    return -sum((matrix @ h["entity"] + r["relation"] - matrix @ t["entity"]) ** 2)


def distmult(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    return sum(h["entity"] * r["relation"] * t["entity"])


def complex_(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    return sum(as_complex(h["entity"]) * as_complex(r["relation"]) * as_complex(t["entity"]).conj()).real


def simple(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    there = sum(h["entity"] * r["relation"] * t["entity_as_tail"])
    back = sum(t["entity"] * r["relation_inverse"] * h["entity_as_tail"])
    return (there + back) / 2


def rescal(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    size = len(h["entity"])
    return h["entity"] @ r["relation"].reshape(size, size) @ t["entity"]


def rotate(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    turned = as_complex(h["entity"]) * np.exp(1j * r["relation"])
    return -sum(abs(turned - as_complex(t["entity"])))


def quate(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    def matrix(a: float, b: float, c: float, d: float) -> Array:
        """A quaternion as a complex 2 x 2 matrix, whose product is the quaternions' product."""
        return np.array([[a + b * 1j, c + d * 1j], [-c + d * 1j, a - b * 1j]])

    rows = zip(*(row.reshape(4, -1).T for row in (h["entity"], r["relation"], t["entity"])), strict=True)
    # Of p and q the inner product is the real part of p conj(q): half the matrix's trace.
    return sum(
        np.trace(matrix(*p) @ matrix(*(turn / np.linalg.norm(turn))) @ matrix(*q).conj().T).real / 2
        for p, turn, q in rows
    )


def normalised(x: Array, model: Mapping[str, Any], name: str) -> Array:
    """Batch norm by running statistics, if the model has it; channels are on the first axis."""
    if f"{name}.scale" not in model:
        return x
    parts = (model[f"{name}.{part}"] for part in ("scale", "shift", "running_mean", "running_variance"))
    scale, shift, mean, variance = (part.reshape(-1, *[1] * (x.ndim - 1)) for part in parts)
    return scale * (x - mean) / np.sqrt(variance + 1e-5) + shift


def tucker(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    head = normalised(h["entity"], model, "head_norm")
    query = normalised(np.einsum("ijk,i,j->k", model["core"], head, r["relation"]), model, "query_norm")
    return query @ t["entity"]


def conve(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    image = np.concatenate([row.reshape(model["height"], -1) for row in (h["entity"], r["relation"])])
    image = normalised(image[None], model, "image_norm")[0]
    size = model["kernel"]
    rows, columns = (length - size + 1 for length in image.shape)
    maps = np.array(
        [
            [sum(image[i : i + size, j : j + size].ravel() * weight) for i in range(rows) for j in range(columns)]
            for weight in model["filters"].T
        ]
    )
    maps += model.get("filters_bias", np.zeros(len(maps)))[:, None]
    maps = np.maximum(normalised(maps, model, "map_norm"), 0)
    vector = maps.ravel() @ model["matrix"] + model.get("matrix_bias", 0)
    return np.maximum(normalised(vector, model, "vector_norm"), 0) @ t["entity"] + t["entity_bias"][0]


def pairre(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    head, tail = (e["entity"] / np.linalg.norm(e["entity"]) for e in (h, t))
    return -sum(abs(head * r["relation"] - tail * r["relation_of_tail"]))


def hake(h: Parts, r: Parts, t: Parts, model: Mapping[str, Any]) -> float:
    modulus = np.sqrt(sum((h["entity"] * abs(r["relation"]) - t["entity"]) ** 2))
    phase = sum(abs(np.sin((h["entity_phase"] + r["relation_phase"] - t["entity_phase"]) / 2)))
    return -float(model["modulus_weight"][0] * modulus + model["phase_weight"][0] * phase)


SHIPPED = {"transe", "transh", "transr", "transd", "distmult", "complex", "simple", "rescal", "rotate", "quate"}
SHIPPED |= {"tucker", "conve", "pairre", "hake"}
"""The scoring functions that come with the project; one of your own is tested without a formula here."""

FORMULAS: dict[str, Formula] = {
    "transe": transe,
    "transh": transh,
    "transr": transr,
    "transd": transd,
    "distmult": distmult,
    "complex": complex_,
    "simple": simple,
    "rescal": rescal,
    "rotate": rotate,
    "quate": quate,
    "tucker": tucker,
    "conve": conve,
    "pairre": pairre,
    "hake": hake,
}
