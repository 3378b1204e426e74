"""Numbers that the host gives, or that lie on a GPU."""

from jaxtyping import Float64
from torch import Tensor

Number = float | Float64[Tensor, ""]
"""A number of the host; or a tensor on a GPU that holds it, which may change before a step is repeated."""
