"""Calls compiled kernels with tensors, after checking the arguments against the kernel's signature.

Kernels do not use torch's headers (build.py): they get addresses and sizes. torch loads its OpenMP library first and
ours uses the same, so both share one pool of threads.
"""

import ctypes
import logging
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import takewhile

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from kernels.build import compiler, open_library

log = logging.getLogger(__name__)

_FIRST_ERROR_LINES = 3
_TYPES = (torch.float32, torch.float64, torch.int64)
_LAYOUT = {"int64": "q", "int32": "i4x", "float64": "d"}
"""How a number is packed into 64 bits."""

Argument = Tensor | int | float | None


def usable(*tensors: Tensor) -> bool:
    """Whether kernels can take these tensors: the library is built, tensors are CPU float32, float64 or int64."""
    fitting = all(each.device.type == "cpu" and each.dtype in _TYPES for each in tensors)
    return fitting and load() is not None


def call(name: str, *arguments: Argument) -> int:
    """Calls a kernel and returns its integer, or 0 if it returns none.

    Tensors that the kernel writes to are marked as changed in place, so autograd refuses to use their old values.
    Shapes are not checked: the caller must check them, because a kernel reads as far as the given sizes say.

    Example: `call("random_integers", key, outer, out, len(outer), count, high, threads)` fills `out`.

    Args:
        name: the kernel's name as exported in C++, such as "draw_float32".
        arguments: in the order of the C++ function: contiguous CPU tensors (None where allowed), integers and floats.

    Raises:
        TypeError: the number of arguments, or the type, device or layout of one, is wrong.
        AttributeError: there is no such kernel.
        RuntimeError: the library could not be built.
    """
    library = load()
    if library is None:
        raise RuntimeError(f"{name} was called although no library could be built")
    return library.kernel(name)(arguments)


def type_name(tensor: Tensor) -> str:
    """The end of a kernel's name for this type of numbers: "float32" or "float64"."""
    return "float32" if tensor.dtype == torch.float32 else "float64"


def address(tensor: Tensor, dtype: torch.dtype, what: str) -> int:
    """The address of a contiguous CPU tensor of type `dtype`, for a kernel.

    Raises:
        TypeError: the type, the device or the layout is another; the message begins with `what`.
    """
    if tensor.dtype is not dtype or not tensor.is_cpu or not tensor.is_contiguous():
        raise TypeError(f"{what} must be a contiguous {_short(dtype)} tensor on the CPU, got {_described(tensor)}")
    return tensor.data_ptr()


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of a kernel: an array or a single number."""

    type: str
    dtype: torch.dtype | None
    """The type of an array's numbers; None for a single number."""
    optional: bool
    written: bool

    @classmethod
    def of(cls, word: str) -> "_Parameter":
        """Parses a word of a signature (export.h)."""
        name = word.lstrip("*?!")
        return cls(name, getattr(torch, name) if word.startswith("*") else None, "?" in word, "!" in word)


class _Kernel:
    def __init__(self, name: str, function: Callable[[bytes], int | None], parameters: list[_Parameter]) -> None:
        self.name = name
        self.function = function
        self.parameters = parameters
        self.written = [place for place, each in enumerate(parameters) if each.written]
        layout = "".join("q" if each.dtype else _LAYOUT[each.type] for each in parameters)
        self.pack = struct.Struct(f"={layout}").pack

    def __call__(self, arguments: tuple[Argument, ...]) -> int:
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, got {len(arguments)}")
        words = list(arguments)
        for place, (parameter, given) in enumerate(zip(self.parameters, arguments, strict=True)):
            if parameter.dtype is None:
                continue
            if given is None and parameter.optional:
                words[place] = 0
            elif isinstance(given, Tensor):
                if given.dtype is not parameter.dtype or not given.is_cpu or not given.is_contiguous():
                    raise self._refusal(place, given)
                words[place] = given.data_ptr()
            else:
                raise self._refusal(place, given)
        try:
            packed = self.pack(*words)
        except (struct.error, TypeError):
            numbers = enumerate(zip(self.parameters, arguments, strict=True))
            wrong = next(place for place, (each, given) in numbers if each.dtype is None and not _packs(each, given))
            raise self._refusal(wrong, arguments[wrong]) from None
        result = self.function(packed)
        increment_version([arguments[place] for place in self.written])  # pyright: ignore[reportArgumentType]
        return result or 0

    def _refusal(self, place: int, given: Argument) -> TypeError:
        parameter = self.parameters[place]
        wanted = f"{'an' if parameter.type.startswith('int') else 'a'} {parameter.type} number"
        if parameter.dtype is not None:
            wanted = f"a contiguous {parameter.type} tensor on the CPU" + (" or None" if parameter.optional else "")
        return TypeError(f"{self.name}: argument {place + 1} must be {wanted}, got {_described(given)}")


class Library:
    """A loaded library; its kernels are looked up when first used."""

    def __init__(self, loaded: ctypes.CDLL) -> None:
        self.loaded = loaded
        self._kernels: dict[str, _Kernel] = {}

    def kernel(self, name: str) -> _Kernel:
        """The kernel of this name.

        Raises:
            AttributeError: the library has no such kernel.
        """
        if name not in self._kernels:
            describe = getattr(self.loaded, f"{name}_signature")
            describe.restype = ctypes.POINTER(ctypes.c_char_p)
            returned, *taken = (word.decode() for word in takewhile(lambda word: word is not None, describe()))
            function = getattr(self.loaded, name)
            function.argtypes = [ctypes.c_char_p]
            function.restype = ctypes.c_int64 if returned == "int64" else None
            self._kernels[name] = _Kernel(name, function, [_Parameter.of(word) for word in taken])
        return self._kernels[name]


@cache
def load() -> Library | None:
    """The library, built if it is not in the cache; None, with one warning, if it cannot be built."""
    command = compiler()
    if not command:
        log.warning("no C++ compiler found (c++, g++, clang++ or $CXX): plain torch is used, which is slower")
        return None
    try:
        return Library(open_library(command))
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).splitlines()[:_FIRST_ERROR_LINES]
        log.warning("kernels could not be built (%s): plain torch is used, which is slower", " | ".join(lines))
        return None


def _packs(parameter: _Parameter, given: Argument) -> bool:
    try:
        struct.pack(f"={_LAYOUT[parameter.type]}", given)
    except (struct.error, TypeError):
        return False
    return True


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _described(given: Argument) -> str:
    if not isinstance(given, Tensor):
        return repr(given)
    layout = "" if given.is_contiguous() else "non-contiguous "
    return f"a {layout}{_short(given.dtype)} tensor on {given.device}"
