"""ConvE (Dettmers et al., Convolutional 2D knowledge graph embeddings, AAAI 2018).

relu(vec(relu([h; r] * filters)) W) . t + b_t, where [h; r] is an image: h above r.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import unfold

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, product_type
from embedding.scoring.dense import affine
from embedding.scoring.scoring import QueryScoring
from graph.errors import InputError


class ConvE(QueryScoring):
    """A convolutional network of head and relation, and its inner product with the tail.

    An entity row holds the vector, then a bias, which is used if the entity is the tail. A vector is read as an image
    of `height` rows. Dense parameters are `filters` [kernel^2, num_filters], each a square read row by row, with
    `filters_bias`; and `matrix` [num_filters x places, dim], filter by filter, with `matrix_bias`.

    The authors' batch norm and dropout are left out: batch norm would make a score depend on the other triples of a
    rank. The network takes the head as input, so without reciprocal relations (`reciprocal` of the model) every
    candidate head goes through the network, which is slow.

    Args:
        height: rows of an entity's image; divides dim.
        kernel: side of a filter.
        num_filters: number of filters.
        precision: "float32", or "bfloat16" for the matrix products of shared candidates.
    """

    def __init__(self, dim: int, height: int, kernel: int, num_filters: int, precision: str) -> None:
        self.product_type = product_type(precision)
        for name, value in (("height", height), ("kernel", kernel), ("num_filters", num_filters)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if dim % height:
            raise InputError(f"height must divide dim, which is {dim}, got {height}")
        if kernel > min(2 * height, dim // height):
            raise InputError(
                f"kernel must fit into the image of head and relation, {2 * height} x {dim // height}, got {kernel}"
            )
        self.height, self.kernel, self.num_filters = height, kernel, num_filters
        super().__init__(dim, {"entity": dim, "entity_bias": 1}, {"relation": dim})
        self._image = 2 * height, dim // height
        features = num_filters * (2 * height - kernel + 1) * (dim // height - kernel + 1)
        self.filters, self.filters_bias = self._layer("filters", kernel**2, num_filters)
        self.matrix, self.matrix_bias = self._layer("matrix", features, dim)

    def _layer(self, name: str, inputs: int, outputs: int) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
        limit = (6 / inputs) ** 0.5  # He et al., ICCV 2015: keeps the variance through a relu
        weight = self.dense_parameter(name, (inputs, outputs), -limit, limit)
        return weight, self.dense_parameter(f"{name}_bias", (outputs,), 0.0, 0.0)

    def entity_init_range(self) -> float:
        """Smaller than that of other functions: without batch norm, the network does not learn from long vectors."""
        return 1 / self.dim**0.5

    @property
    def export_options(self) -> dict[str, float | int | str]:
        """The shapes of images and filters."""
        return {"height": self.height, "kernel": self.kernel, "num_filters": self.num_filters}

    @property
    def pair_numbers(self) -> int:
        """The patches of the image, or what all filters make of them."""
        return len(self.matrix) * max(1, self.kernel**2 // self.num_filters)

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """The inner product, and the tail's bias."""
        shape = torch.broadcast_shapes(head.shape[:-1], relation.shape[:-1])
        head, relation = (each.expand(*shape, each.shape[-1]).reshape(-1, each.shape[-1]) for each in (head, relation))
        return (self.tail_query(head, relation).view(*shape, self.entity_width) * tail).sum(-1)

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B E"]:
        """The network's output for h and r, then 1 for the bias."""
        image = torch.cat([head[:, : self.dim], relation], dim=1).view(len(head), 1, *self._image)
        patches = unfold(image, self.kernel).transpose(1, 2)  # [B, places, kernel^2]
        maps = affine(patches.flatten(0, 1), self.filters, self.filters_bias).relu()
        features = maps.view(*patches.shape[:2], self.num_filters).transpose(1, 2).flatten(1)
        vector = affine(features, self.matrix, self.matrix_bias).relu()
        return torch.cat([vector, vector.new_ones((len(vector), 1))], dim=1)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> None:
        """There is none: the network takes the head."""
        return

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.product_type)
