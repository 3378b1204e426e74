"""NBFNet (Zhu et al., Neural Bellman-Ford networks: a general graph neural network framework for link prediction,
NeurIPS 2021, arXiv 2106.06935), with DistMult's messages and sums.

Only entities that are reached from the query's entity are touched, as in RED-GNN (Zhang and Yao, Knowledge graph
reasoning with relational digraph, WWW 2022, arXiv 2108.06040). With `most_edges`, a layer sends messages only from the
entities that score highest, as in A*Net (Zhu et al., A*Net: a scalable path-based reasoning approach for knowledge
graphs, NeurIPS 2023, arXiv 2206.04798).
"""

from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from embedding.paths.edge_scoring import EdgeScoring
from embedding.paths.messages import sum_sent
from embedding.paths.states import grown, scores_of
from embedding.scoring.dense import affine
from graph.errors import InputError
from kernels.library import usable
from kernels.paths import Nodes, choose, nodes_of, reach

_BLOCK_PAIRS = 1 << 21
"""Pairs of a query and an entity whose scores are made at a time, reached or not."""
_BLOCK_NODES = 1 << 17
"""About as many of these pairs are reached in a block."""
_KEPT_BYTES = 1 << 30
"""Memory for the states and messages of a call that are kept for gradients; if they need more, they are made again."""


class NBFNet(EdgeScoring):
    """Sums, over the paths from the query's entity to another one, products of weights of the paths' edges.

    With q the relation row of the query, each entity v has a state of `dim` numbers, at first q for the query's entity
    u and 0 for all others. For each entity that is reached, a layer sums messages and the first state,

        m_v = [v = u] q + sum over edges (w, r, v) of state_w * (W_r q + b_r),

    and adds relu(norm(A [state_v, m_v] + d)) to the state; norm gives the numbers of a vector mean 0 and variance 1.
    W_r, b_r, A and d are the layer's own. The score is a . relu(B state_v + C q + c). All entities that are not reached
    have a state of 0, so the same score. Edges are those of train and their inverses, which are relations of their own.

    With `most_edges`, a layer scores the states that a query has so far, and sends messages only from those of the
    highest scores, each times the sigmoid of its score. These scores are learned with the model, from the answers.

    Args:
        dim: numbers in a state, and in a relation row.
        layers: edges of the longest path that is seen.
        most_edges: a layer takes states of a query, the highest score first, until at least so many edges lead out of
            them. Of scores that differ by less than about 0.001, the smaller entity comes first. None: it takes all,
            and multiplies by no sigmoid.
        leave_out: see `EdgeScoring`.
    Raises:
        InputError: an option out of range.
    """

    def __init__(self, dim: int, layers: int, most_edges: int | None, leave_out: str) -> None:
        if layers < 1:
            raise InputError(f"layers must be at least 1, got {layers}")
        if most_edges is not None and most_edges < 1:
            raise InputError(f"most_edges must be null or at least 1, got {most_edges}")
        super().__init__(dim, {"query": dim}, leave_out=leave_out)
        self.layers = layers
        self.most_edges = most_edges

    of_relation: nn.ParameterList
    relation_bias: nn.ParameterList
    update: nn.ParameterList
    update_bias: nn.ParameterList

    def make_parameters(self, num_relations: int) -> None:
        """See `EdgeScoring.make_parameters`. All start as those of a linear layer of torch."""
        dim, layers = self.dim, range(self.layers)
        one, two = dim**-0.5, (2 * dim) ** -0.5
        shapes = {
            "of_relation": ((dim, num_relations * dim), one),
            "relation_bias": ((num_relations * dim,), one),
            "update": ((2 * dim, dim), two),
            "update_bias": ((dim,), two),
        }
        for name, (shape, bound) in shapes.items():
            made = [self.dense_parameter(f"{name}.{layer}", shape, -bound, bound) for layer in layers]
            setattr(self, name, nn.ParameterList(made))
        self.of_state = self.dense_parameter("of_state", (dim, dim), -two, two)
        self.of_query = self.dense_parameter("of_query", (dim, dim), -two, two)
        self.bias = self.dense_parameter("bias", (dim,), -two, two)
        self.to_score = self.dense_parameter("to_score", (dim, 1), -one, one)

    def relation_init_range(self) -> float:
        """The square root of 3: variance 1."""
        return 3**0.5

    def with_all(self, entity: Int64[Tensor, " B"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """See `EdgeScoring.with_all`. A query that is there twice is scored once."""
        asked = torch.cat([entity[:, None].to(relation.dtype), relation.detach()], dim=1)
        first, place = _distinct(asked)
        heads, queries = entity[first], relation[first]
        blocks, states = self._blocks(heads)
        kept = 2 * states * queries.shape[1] * queries.element_size()
        # Plain torch keeps three times as much.
        again = kept > _KEPT_BYTES or not usable(queries)
        if torch.is_grad_enabled() and len(blocks) > 1 and again:
            scored = partial(checkpoint, self._score, use_reentrant=False, preserve_rng_state=False)
            made = [cast(Tensor, scored(heads[each], queries[each], [])) for each in blocks]
        else:
            made = [self._score(heads[each], queries[each], []) for each in blocks]
        return torch.cat(made)[place]

    def _blocks(self, entity: Int64[Tensor, " d"]) -> tuple[list[slice], int]:
        """Queries to be scored at a time: so many that few enough pairs are reached. There is at least one block.

        Returns:
            The blocks, and the number of their states: the first ones, and those after each layer.
        """
        size = max(1, _BLOCK_PAIRS // max(1, self.edges.num_entities))
        blocks, states = [], 0
        for first in range(0, len(entity), size) or (0,):
            heads = entity[first : first + size]
            ends = self._most_nodes(heads)
            states += sum(ends)
            part = max(1, len(heads) // max(1, -(-ends[-1] // _BLOCK_NODES)))
            blocks += [
                slice(start, min(start + part, first + len(heads)))
                for start in range(first, first + len(heads), part) or (first,)
            ]
        return blocks, states

    def _most_nodes(self, heads: Int64[Tensor, " q"]) -> list[int]:
        """The number of nodes that there can be at most, at first and after each layer."""
        edges = self.edges
        if self.most_edges is not None:
            new = self.most_edges + self.most_of_one
            return [len(heads) * min(edges.num_entities, 1 + layer * new) for layer in range(self.layers + 1)]
        nodes = nodes_of(edges, heads)
        ends = [0, len(heads)]
        for _ in range(self.layers):
            nodes = reach(edges, nodes, nodes.part(slice(*ends[-2:])))
            ends.append(len(nodes.query))
        return ends[1:]

    def _score(
        self, entity: Int64[Tensor, " q"], query: Float[Tensor, "q R"], choices: list[Tensor]
    ) -> Float[Tensor, "q Q"]:
        """The score of each query with each entity.

        Args:
            choices: the nodes that each layer sends from, if it chooses; empty at first. States that are made again for
                gradients get the same ones, also where a GPU rounds sums in another way.
        """
        edges, most = self.edges, self.most_edges
        nodes, state, reached = nodes_of(edges, entity), query, 0
        first, group = _distinct(query.detach())
        # In float64, so that the choice hardly depends on how many queries are made at once.
        of_query = affine(query.double(), self.of_query, self.bias).to(query.dtype)
        of_group = query[first].double()
        for layer in range(self.layers):
            if most is None:
                sources, sent, new = nodes, state, nodes.part(slice(reached, None))
            else:
                if layer == len(choices):
                    choices.append(self._chosen(nodes, state, of_query, most))
                sources, sent = nodes.part(choices[layer]), state[choices[layer]]
                sent, new = sent * self._score_of(sources, sent, of_query).sigmoid()[:, None], sources
            reached = len(nodes.query)
            nodes = reach(edges, nodes, new)
            weight = torch.addmm(self.relation_bias[layer], of_group, self.of_relation[layer])
            weight = weight.view(len(first), edges.num_relations, self.dim)
            message = sum_sent(edges, sources, group, sent, weight, query, len(nodes.query))
            state = grown(state, message, self.update[layer], self.update_bias[layer])
        score = self._score_of(nodes, state, of_query)
        of_none = self._score_of(nodes.part(slice(len(query))), torch.zeros_like(query), of_query)
        not_reached = of_none[:, None].expand(-1, edges.num_entities)
        pair = nodes.query.long() * edges.num_entities + nodes.entity
        return not_reached.flatten().scatter(0, pair, score).view(not_reached.shape)

    @torch.no_grad()
    def _chosen(self, nodes: Nodes, state: Tensor, of_query: Tensor, most_edges: int) -> Int64[Tensor, " k"]:
        """The nodes that a layer sends from, with `most_edges`.

        Entities with the same paths have scores that differ by rounding only. That must not decide between them, or
        other ranks would choose others. So scores are compared as multiples of 1 / 1024.
        """
        score = self._score_of(nodes, state, of_query)
        return choose(self.edges, nodes, (1024 * score).round(), most_edges)

    def _score_of(
        self, nodes: Nodes, state: Float[Tensor, "n D"], of_query: Float[Tensor, "q D"]
    ) -> Float[Tensor, " n"]:
        return scores_of(state, nodes.query, of_query, self.of_state, self.to_score)


def _distinct(rows: Float[Tensor, "n W"]) -> tuple[Int64[Tensor, " d"], Int64[Tensor, " n"]]:
    """The first place of each distinct row, and for each row the number of its distinct one."""
    number = torch.arange(len(rows), device=rows.device)
    if not len(rows):
        return number, number
    found, place = torch.unique(rows, dim=0, return_inverse=True)
    first = number.new_full((len(found),), len(rows)).scatter_reduce_(0, place, number, "amin")
    return first, place
