"""Binds a process to the cores that are near its GPU."""

import logging
import os
from pathlib import Path

import torch

_log = logging.getLogger(__name__)
_SYSTEM = Path("/sys")


def bind_near(device: torch.device) -> None:
    """Lets this process and its threads run only on the cores of the NUMA node that the GPU is attached to.

    From another node, each kernel's launch and each copy crosses the link between processors. A launcher may have bound
    the process already (`torchrun --numa-binding=node`); it only gets fewer cores here. Where the system does not say
    which cores are near, nothing is bound.
    """
    allowed = os.sched_getaffinity(0)
    of_gpu = torch.cuda.get_device_properties(device)
    near = cores_near(f"{of_gpu.pci_domain_id:04x}:{of_gpu.pci_bus_id:02x}:{of_gpu.pci_device_id:02x}.0") & allowed
    if not near or near == allowed:
        return
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), near)
        except ProcessLookupError:  # it has just ended
            continue
    _log.info("%s: this process runs on the %d cores near it", device, len(near))


def cores_near(address: str, system: Path = _SYSTEM) -> set[int]:
    """The cores of the NUMA node of a device; none if the system does not say.

    Args:
        address: the device on the PCI bus, as the system names it: 0000:3b:00.0.
        system: the folder where the system describes itself.
    """
    node = system / "bus/pci/devices" / address / "numa_node"
    number = int(node.read_text()) if node.exists() else -1
    cores = system / f"devices/system/node/node{number}/cpulist"
    return _numbers(cores.read_text()) if number >= 0 and cores.exists() else set()


def _numbers(ranges: str) -> set[int]:
    """The numbers of a text such as 0-3,8-11."""
    found: set[int] = set()
    for part in filter(None, ranges.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
