"""Machines of their own on this one: Linux namespaces, with a network between them that can be slow and lose packets.

A machine has its own network, host name, processes, /dev/shm and /etc/hosts, and a disk that others do not see. They
are joined by TUN devices: this process reads every packet and hands it on, late or not at all if a test wants so.
"""

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import selectors
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.warm_start import wait_until

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_LONGEST_PACKET = 1 << 16


def why_no_machines() -> str | None:
    """Why this computer can't make machines; None if it can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    missing = [tool for tool in ("unshare", "ip", "mount") if shutil.which(tool) is None]
    if missing:
        return f"needs the commands {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount", "--uts", "--ipc", "true"], check=False)
    return None if tried.returncode == 0 else "needs leave to make namespaces"


class Network:
    """Hands packets on between machines.

    Args:
        seconds: how long a packet is under way.
        loss: the share of packets that are lost.
        seed: of the packets that are lost.
    """

    def __init__(self, *, seconds: float = 0.0, loss: float = 0.0, seed: int = 0) -> None:
        self.seconds, self.loss = seconds, loss
        self.sent = self.lost = 0
        self._random = random.Random(seed)
        self._devices: dict[bytes, int] = {}
        self._selector = selectors.DefaultSelector()
        self._under_way: list[tuple[float, int, bytes]] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, address: str, pid: int) -> None:
        """Gives the network namespace of a process a device, `wire`, and an address."""
        opened: list[int] = []
        thread = threading.Thread(target=lambda: opened.append(_open_tun(pid)))  # only this thread enters the namespace
        thread.start()
        thread.join()
        (device,) = opened
        inside = ["nsenter", "-t", str(pid), "-n", "ip"]
        for words in (["addr", "add", f"{address}/24", "dev", "wire"], ["link", "set", "lo", "up"]):
            subprocess.run([*inside, *words], check=True)
        self._devices[bytes(map(int, address.split(".")))] = device
        self._selector.register(device, selectors.EVENT_READ)
        subprocess.run([*inside, "link", "set", "wire", "up"], check=True)

    def close(self) -> None:
        """Ends the network."""
        self._ends.set()
        self._thread.join()
        for device in self._devices.values():
            os.close(device)

    def _run(self) -> None:
        while not self._ends.is_set():
            wait = min(0.05, max(0.0, self._under_way[0][0] - time.monotonic())) if self._under_way else 0.05
            if not self._selector.get_map():
                time.sleep(wait)
                continue
            for key, _ in self._selector.select(wait):
                self._take(key.fd)
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                self._deliver(heapq.heappop(self._under_way)[2])

    def _take(self, device: int) -> None:
        try:
            packet = os.read(device, _LONGEST_PACKET)
        except OSError:  # its machine has ended
            self._selector.unregister(device)
            return
        self.sent += 1
        if self._random.random() < self.loss:
            self.lost += 1
        else:
            heapq.heappush(self._under_way, (time.monotonic() + self.seconds, self.sent, packet))

    def _deliver(self, packet: bytes) -> None:
        device = self._devices.get(packet[16:20])  # the destination of IPv4
        if device is not None:
            with contextlib.suppress(OSError):  # its machine has ended
                os.write(device, packet)


def _open_tun(pid: int) -> int:
    """A TUN device in the network namespace of a process. The thread that calls this stays there."""
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"wire", _IFF_TUN | _IFF_NO_PI))
    return device


@dataclass
class Machines:
    """So many machines, at 10.77.0.1 and on; see `machines`."""

    folder: Path
    count: int
    network: Network
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        """A folder that each machine has for itself."""
        return self.folder / "disk"

    def disk_of(self, machine: int) -> Path:
        """The disk of a machine, as seen from outside."""
        return self.folder / f"disk_{machine}"

    def said(self, machine: int) -> str:
        """What the commands of a machine have said."""
        return (self.folder / f"said_{machine}").read_text()

    def start(self, machine: int, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Starts a machine, which runs a command and ends with it."""
        setup = (
            f"mount --bind {self.folder}/hosts /etc/hosts && mount --bind {self.disk_of(machine)} {self.disk} && "
            f"hostname machine{machine} && mount -t proc proc /proc && mount -t tmpfs -o size=256m tmpfs /dev/shm && "
            "until ip link show dev wire up 2>/dev/null | grep -q UP; do sleep 0.05; done; "
            'exec "$@"'
        )
        namespaces = ["--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "--kill-child"]
        with (self.folder / f"said_{machine}").open("ab") as said:
            process = subprocess.Popen(
                ["unshare", *namespaces, "sh", "-c", setup, "sh", *command],
                stdout=said,
                stderr=said,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        self.running[machine] = process
        wait_until(lambda: self._children(machine) != [], 30)
        self.network.join(f"10.77.0.{machine}", self.first_process_of(machine))

    def first_process_of(self, machine: int) -> int:
        """The process id, outside, of the command that a machine runs."""
        (process,) = self._children(machine)
        return process

    def kill(self, machine: int) -> None:
        """Switches a machine off: all its processes are gone at once."""
        process = self.running.pop(machine)
        process.kill()
        process.wait()

    def _children(self, machine: int) -> list[int]:
        unshare = self.running[machine].pid
        return [int(child) for child in Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()]

    def wait(self, seconds: float = 300.0) -> list[int]:
        """Waits until all machines that run have ended; their exit codes."""
        deadline = time.monotonic() + seconds
        return [each.wait(max(0.0, deadline - time.monotonic())) for _, each in sorted(self.running.items())]


@contextlib.contextmanager
def machines(folder: Path, count: int, *, seconds: float = 0.0, loss: float = 0.0) -> Iterator[Machines]:
    """Makes machines, none of which runs yet; switches off at the end those that still do."""
    names = "".join(f"10.77.0.{machine} machine{machine}\n" for machine in range(1, count + 1))
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
    made = Machines(folder, count, Network(seconds=seconds, loss=loss))
    made.disk.mkdir()
    for machine in range(1, count + 1):
        made.disk_of(machine).mkdir()
    try:
        yield made
    finally:
        for machine in list(made.running):
            made.kill(machine)
        made.network.close()
