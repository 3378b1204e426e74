"""ConvE (Dettmers et al., Convolutional 2D knowledge graph embeddings, AAAI 2018).

relu(vec(relu([h; r] * filters)) W) . t + b_t, where [h; r] is an image: h above r. With batch norm, three times:
relu(norm(vec(relu(norm(norm([h; r]) * filters))) W)) . t + b_t.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, precision_of
from embedding.scoring.feature_maps import patches_of, project_maps
from embedding.scoring.network import NetworkScoring, check_probability, normalised
from embedding.training_step import TrainingStep
from graph.errors import InputError


class ConvE(NetworkScoring):
    """A convolutional network of head and relation, and its inner product with the tail.

    An entity row holds the vector, then a bias, which is used if the entity is the tail. A vector is read as an image
    of `height` rows. Dense parameters are `filters` [kernel^2, num_filters], each a square read row by row, with
    `filters_bias`; and `matrix` [num_filters x places, dim], filter by filter, with `matrix_bias`.

    With batch norm, there are no `filters_bias` and `matrix_bias`, and norm(x) is
    scale (x - mean) / sqrt(variance + 1e-5) + shift; see `BatchNorm`. There is one of each for the whole image:
    `image_norm.scale`, `image_norm.running_mean`, `image_norm.running_variance`, `image_norm.shift`; one for each
    filter: `map_norm.scale`, `map_norm.running_mean`, `map_norm.running_variance`, `map_norm.shift`; and one for each
    number of the vector: `vector_norm.scale`, `vector_norm.running_mean`, `vector_norm.running_variance`,
    `vector_norm.shift`. The authors' dropout of the image is the model's `entity_dropout` and `relation_dropout`,
    applied after its batch norm.

    The network takes the head as input, so without reciprocal relations (`reciprocal` of the model) every candidate
    head goes through the network, which is slow; batch norm and dropout then can't be used.

    Args:
        height: rows of an entity's image; divides dim.
        kernel: side of a filter.
        num_filters: number of filters.
        batch_norm: normalise the image, the feature maps and the vector.
        feature_map_dropout: probability to drop a whole feature map while training; in [0, 1).
        projection_dropout: probability to drop a number of the vector, before its batch norm; in [0, 1).
        precision: "tf32" or "bfloat16" rounds the factors of products with shared candidates while training.
    """

    entity_biases = 1

    def __init__(
        self,
        dim: int,
        height: int,
        kernel: int,
        num_filters: int,
        batch_norm: bool,
        feature_map_dropout: float,
        projection_dropout: float,
        precision: str,
    ) -> None:
        self.precision = precision_of(precision)
        for name, value in (("height", height), ("kernel", kernel), ("num_filters", num_filters)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if dim % height:
            raise InputError(f"height must divide dim, which is {dim}, got {height}")
        if kernel > min(2 * height, dim // height):
            raise InputError(
                f"kernel must fit into the image of head and relation, {2 * height} x {dim // height}, got {kernel}"
            )
        check_probability("feature_map_dropout", feature_map_dropout)
        check_probability("projection_dropout", projection_dropout)
        self.height, self.kernel, self.num_filters = height, kernel, num_filters
        self.feature_map_dropout, self.projection_dropout = feature_map_dropout, projection_dropout
        super().__init__(dim, {"entity": dim, "entity_bias": 1}, {"relation": dim})
        self._image = 2 * height, dim // height
        features = num_filters * (2 * height - kernel + 1) * (dim // height - kernel + 1)
        # A bias in front of a batch norm would have no effect: the mean is taken away.
        self.filters, self.filters_bias = self._layer("filters", kernel**2, num_filters, has_bias=not batch_norm)
        self.matrix, self.matrix_bias = self._layer("matrix", features, dim, has_bias=not batch_norm)
        self.image_norm = self.batch_norm("image_norm", 1) if batch_norm else None
        self.map_norm = self.batch_norm("map_norm", num_filters) if batch_norm else None
        self.vector_norm = self.batch_norm("vector_norm", dim) if batch_norm else None

    def _layer(
        self, name: str, inputs: int, outputs: int, *, has_bias: bool
    ) -> tuple[nn.Parameter, nn.Parameter | None]:
        limit = (6 / inputs) ** 0.5  # He et al., ICCV 2015: keeps the variance through a relu
        weight = self.dense_parameter(name, (inputs, outputs), -limit, limit)
        return weight, self.dense_parameter(f"{name}_bias", (outputs,), 0.0, 0.0) if has_bias else None

    def entity_init_range(self) -> float:
        """Smaller than that of other functions: without batch norm, the network does not learn from long vectors."""
        return 1 / self.dim**0.5

    @property
    def differs_in_training(self) -> bool:
        """See `NetworkScoring`."""
        return self.image_norm is not None or self.feature_map_dropout > 0 or self.projection_dropout > 0

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
        return self._network(head, relation, None)

    def training_queries(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], step: TrainingStep
    ) -> Float[Tensor, "B E"]:
        """See `NetworkScoring.training_queries`."""
        return self._network(head, relation, step)

    def _network(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], step: TrainingStep | None
    ) -> Float[Tensor, "B E"]:
        # One channel: all numbers of the image are places.
        image = normalised(self.image_norm, torch.cat([head[:, : self.dim], relation], dim=1)[:, :, None], step)
        if step is not None:
            upper, lower = image[:, :, 0].split(self.dim, dim=1)
            image = torch.cat([step.drop_entity(upper), step.drop_relation(lower)], dim=1)
        patches = patches_of(image.view(len(head), *self._image), self.kernel)
        filters, bias = self.filters, self.filters_bias
        if self.map_norm is not None:
            factor, bias = self.map_norm.factor_and_term(step and step.moments_of_maps(patches, filters))
            filters = filters * factor
        weights = torch.cat([filters, cast(Tensor, bias)[None]])
        scale = None
        if step is not None and self.feature_map_dropout:
            scale = step.scale("feature map", self.feature_map_dropout, self.num_filters, patches.dtype)
        chunk_size = None if step is None else step.batch.chunk_size
        vector = project_maps(patches, weights, scale, self.matrix, self.matrix_bias, chunk_size)
        if step is not None:
            vector = step.drop("projection", self.projection_dropout, vector)
        vector = normalised(self.vector_norm, vector, step).relu()
        return torch.cat([vector, vector.new_ones((len(vector), 1))], dim=1)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> None:
        """There is none: the network takes the head."""
        return

    def compare(self, query: Float[Tensor, "B E"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """Inner products."""
        return inner_products(query, candidates, self.precision)
