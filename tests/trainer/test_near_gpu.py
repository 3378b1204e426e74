"""Cores near a GPU, in a folder that looks like the system's."""

import os
from pathlib import Path

import pytest
import torch

from trainer import near_gpu
from trainer.near_gpu import bind_near, cores_near

ADDRESS = "0000:3b:00.0"


def system_of(folder: Path, node: int, cores: str) -> Path:
    device, nodes = folder / "bus/pci/devices" / ADDRESS, folder / f"devices/system/node/node{max(node, 0)}"
    device.mkdir(parents=True)
    nodes.mkdir(parents=True)
    (device / "numa_node").write_text(f"{node}\n")
    (nodes / "cpulist").write_text(f"{cores}\n")
    return folder


@pytest.mark.parametrize(
    ("node", "cores", "expected"),
    [(1, "4-6,12", {4, 5, 6, 12}), (0, "0", {0}), (-1, "0-3", set()), (0, "", set())],
    ids=["ranges", "one core", "a machine of one node", "a node of memory alone"],
)
def test_they_are_those_of_the_gpus_node(node: int, cores: str, expected: set[int], tmp_path: Path):
    assert cores_near(ADDRESS, system_of(tmp_path, node, cores)) == expected


def test_a_system_that_says_nothing_names_no_core(tmp_path: Path):
    assert cores_near(ADDRESS, tmp_path) == set()


class _Properties:
    pci_domain_id, pci_bus_id, pci_device_id = 0, 0x3B, 0


@pytest.mark.parametrize("core", ["one", "none that is allowed"])
def test_all_threads_run_there_if_they_may(core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = os.sched_getaffinity(0)
    near = min(before) if core == "one" else max(before) + 1
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: _Properties())
    system = system_of(tmp_path, 0, str(near))
    monkeypatch.setattr(near_gpu, "cores_near", lambda address: cores_near(address, system))
    threads = [int(each.name) for each in Path("/proc/self/task").iterdir()]
    own = {thread: os.sched_getaffinity(thread) for thread in threads}
    try:
        bind_near(torch.device("cuda", 0))
        expected = {near} if core == "one" else before
        assert all(os.sched_getaffinity(thread) == expected for thread in threads)
    finally:
        for thread, cores in own.items():
            os.sched_setaffinity(thread, cores)
