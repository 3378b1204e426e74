"""Decides whether a checkpoint is written while training goes on, which takes a copy of what is saved."""

import logging
import os
from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.peak import free_memory
from trainer.runtime import Runtime

log = logging.getLogger(__name__)
LEAST_BYTES = 64 << 20
"""Less than this on a rank is written within a fraction of a second, and not worth a thread."""
_KEPT_FREE = 256 << 20
"""Bytes of the machine that no copy takes, because steps need some memory too."""


class Background:
    """Whether there is enough to save, and room for a copy of it. All ranks get the same answer."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._told = False

    def fits(self, files: Mapping[str, Mapping[str, Tensor]]) -> bool:
        """Whether to copy these tensors of this rank and write the copies in the background. Collective.

        The log says once if only the memory is missing.
        """
        size = sum(value.nbytes for tensors in files.values() for value in tensors.values())
        sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        free = free_memory()
        has_room = size * sharing + _KEPT_FREE <= free
        # Of any rank, because blocks of rows differ by one row.
        large, without_room = self.runtime.add(
            torch.tensor([size >= LEAST_BYTES, not has_room], dtype=torch.float64, device=self.runtime.device)
        ).tolist()
        if large and without_room and self.runtime.is_first and not self._told:
            self._told = True
            log.info(
                "training waits while a checkpoint is written: to go on meanwhile, %d rank(s) here would need %.1f GB "
                "for copies, and %.1f GB are free",
                sharing,
                (size * sharing + _KEPT_FREE) / 1e9,
                free / 1e9,
            )
        return large > 0 and without_room == 0
