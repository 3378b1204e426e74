"""AttachedModules: parameters of others, such as those of a loss, that are trained with a model."""

import torch
from torch import nn

from embedding.exchange import add_over_ranks
from embedding.site import ModelSite


class AttachedModules(nn.ModuleDict):
    """Modules by name. Their parameters are trained, saved and loaded with a model, and are equal on all ranks."""

    def __init__(self, site: ModelSite) -> None:
        super().__init__()
        self._site = site

    def put(self, name: str, module: nn.Module) -> None:
        """Adds a module, in place of an earlier one of this name. One without parameters is left out."""
        if name in self:
            del self[name]
        if next(module.parameters(), None) is not None:
            self[name] = module.to(self._site.device)

    def add_gradients(self) -> None:
        """Sums the gradients over ranks, as DDP does for the model's other dense parameters. Collective."""
        if self._site.world_size > 1:
            for parameter in self.parameters():
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = add_over_ranks(gradient)
