"""What the workers of a handler need of a machine: devices, cores, and the resources of a cluster.

Decides what each of these options may be and which device and cores the worker with a given number gets. It knows neither
what a machine has nor how a worker is put there.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import shown
from ..errors import GraphError

#: What the CUDA libraries read before their first use.
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Hardware:
    """The needs of each worker of a pool; see the options of the same names."""

    devices: tuple[str, ...] = ()
    cpus: tuple[tuple[int, ...], ...] = ()
    num_gpus: float = 0.0
    num_cpus: float | None = None
    resources: tuple[tuple[str, float], ...] = ()
    placement: str | None = None

    @property
    def seats(self) -> int | None:
        """How many workers there are where nobody says it: one for each device, or set of cores; else `None`."""
        return len(self.devices) or len(self.cpus) or None


@dataclass(frozen=True, slots=True)
class Seat:
    """What one worker is given before it imports anything: variables of its environment, and the cores it may use."""

    variables: tuple[tuple[str, str], ...] = ()
    cores: tuple[int, ...] = ()


def seat_of(hardware: Hardware, index: int, gpus: Iterable[str]) -> Seat:
    """Return the seat of the worker with an index; its replacements have the same. `gpus` are those of the machine.

    Devices and sets of cores are dealt out in turn. Whole numbers of GPUs are a worker's own; with fractions, neighbours
    share one.
    """
    chosen: list[str] = []
    if hardware.devices:
        chosen = [_number_of(hardware.devices[index % len(hardware.devices)])]
    elif hardware.num_gpus:
        chosen = gpus_of(hardware.num_gpus, index, list(gpus))
    cores = hardware.cpus[index % len(hardware.cpus)] if hardware.cpus else ()
    return Seat(((VISIBLE, ",".join(chosen)),) if chosen else (), cores)


def gpus_of(each: float, index: int, gpus: list[str]) -> list[str]:
    """Return the GPUs of the worker with an index, if every one needs `each`: a whole number, or a fraction of one."""
    if each >= 1:
        return gpus[index * int(each) : (index + 1) * int(each)]
    at = index // int(1 / each + 1e-6)
    return gpus[at : at + 1]


def seats_in(each: float, gpus: int) -> int:
    """Return how many workers find room in a number of GPUs."""
    return gpus // int(each) if each >= 1 else gpus * int(1 / each + 1e-6)


def _number_of(device: str) -> str:
    """Return a device as CUDA_VISIBLE_DEVICES names it: `cuda:1` is `1`, all else stays."""
    head, _, number = device.partition(":")
    return number if head == "cuda" and number else device


# -- checks of the options --------------------------------------------------------------------------------------


def check_devices(where: str, name: str, value: Any) -> tuple[str, ...]:
    """Return the devices as texts; raises `GraphError` for anything but a list of texts that differ."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise GraphError(f"{where}: {name}={shown(value)}; pass a list such as ['cuda:0', 'cuda:1']")
    devices = tuple(value)
    if not devices or not all(isinstance(device, str) and device for device in devices) or len({*devices}) < len(devices):
        raise GraphError(f"{where}: {name}={shown(value)}; pass different texts such as ['cuda:0', 'cuda:1']")
    return devices


def check_cores(where: str, name: str, value: Any) -> tuple[tuple[int, ...], ...]:
    """Return the sets of cores, one for each worker in turn; raises `GraphError` for what cannot be one."""
    remedy = "pass a core for each worker, [0, 1], or several, [[0, 1], [2, 3]]"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise GraphError(f"{where}: {name}={shown(value)}; {remedy}")
    found = []
    for one in value:
        cores = tuple(one) if isinstance(one, Iterable) and not isinstance(one, (str, bytes)) else (one,)
        if not cores or any(isinstance(core, bool) or not isinstance(core, int) or core < 0 for core in cores):
            raise GraphError(f"{where}: {name}={shown(value)}; {remedy}")
        found.append(cores)
    if not found:
        raise GraphError(f"{where}: {name}={shown(value)}; {remedy}")
    return tuple(found)


def check_amount(where: str, name: str, value: Any, *, parts: bool = False) -> float:
    """Return an amount of a resource; with `parts` above 1 only whole numbers are accepted. Raises `GraphError`."""
    number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    if not math.isfinite(number) or number <= 0 or (parts and number > 1 and number != int(number)):
        rule = "a part of 1 or a whole number, more than 0" if parts else "a number, more than 0"
        raise GraphError(f"{where}: {name}={shown(value)}, but it must be {rule}; leave it out for none")
    return number


def check_resources(where: str, name: str, value: Any) -> tuple[tuple[str, float], ...]:
    """Return the resources by name; raises `GraphError` for what Ray would refuse."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        raise GraphError(f"{where}: {name}={shown(value)}; pass a dict such as {{'big': 1}}")
    for key, own in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        if key in value:
            raise GraphError(f"{where}: {name}={shown(value)}; say {key} by {own}=")
    return tuple(sorted((key, check_amount(where, f"{name}[{key!r}]", amount)) for key, amount in value.items()))


def check_placement(where: str, name: str, value: Any) -> str:
    """Return a placement; raises `GraphError` for anything but a text."""
    if not isinstance(value, str) or not value:
        raise GraphError(f"{where}: {name}={shown(value)}; use 'pack', 'spread', or the id, address or name of a node")
    return value
