"""What machine this is, as far as it can be read: a figure without it means nothing."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INT8_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""CPU flags that decide how fast int8 is; asimddp is Arm's dot product."""


@dataclass(frozen=True)
class Device:
    """A machine without anything that names its owner; None where the system does not tell."""

    model: str
    """Product name, or the kind of machine."""
    soc: str
    """Name of the processor."""
    abi_features: tuple[str, ...]
    """Those of ``INT8_FEATURES`` that the processor has."""
    os: str
    cores: int | None
    affinity: tuple[int, ...] | None
    """Numbers of the cores that this process may use."""
    memory_bytes: int | None
    virtual: bool
    """Whether the processor says that it is shared by a hypervisor."""
    governor: str | None
    """What decides the clock of the first core."""
    clock_khz: tuple[tuple[int, int], ...] | None
    """Lowest and highest clock of every core."""
    plugged: int | None
    battery_percent: int | None

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are equal for records of one machine and system."""
        fixed = self.model, self.soc, self.abi_features, self.os, self.cores, self.memory_bytes
        return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:12]


def this_device() -> Device:
    """The machine that runs this process."""
    return Device(
        model=_text("/sys/class/dmi/id/product_name") or platform.machine(),
        soc=cpu_model(),
        abi_features=cpu_features(),
        os=platform.platform(),
        cores=os.cpu_count(),
        affinity=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None,
        memory_bytes=_memory_bytes(),
        virtual="hypervisor" in _flags(),
        governor=_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        clock_khz=_clocks(),
        plugged=_supply("Mains", "online"),
        battery_percent=_supply("Battery", "capacity"),
    )


def describe_device() -> dict[str, Any]:
    """``this_device`` as plain values."""
    return asdict(this_device())


def cpu_model() -> str:
    """Name of the processor."""
    info = _cpu_info()
    return info.get("model name") or info.get("Hardware") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """Those of ``INT8_FEATURES`` this processor has; empty where it cannot be read."""
    flags = _flags()
    return tuple(name for name in INT8_FEATURES if name in flags)


def temperature_celsius() -> float | None:
    """Hottest thermal zone, °C; None where there is none."""
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    values = [
        int(text) / 1000
        for text in (_text(str(zone)) for zone in zones)
        if text and text.lstrip("-").isdigit()
    ]
    return max(values, default=None)


def _flags() -> set[str]:
    info = _cpu_info()
    return set((info.get("flags") or info.get("Features") or "").split())


def _cpu_info() -> dict[str, str]:
    """First value of every key of ``/proc/cpuinfo``."""
    info: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    except OSError:
        return {}
    return info


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _clocks() -> tuple[tuple[int, int], ...] | None:
    """Limits of every core's clock, in the order of the cores."""
    folders = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")
    found = []
    for folder in sorted(folders, key=lambda path: int(path.parent.name.removeprefix("cpu"))):
        ends = [_text(str(folder / f"cpuinfo_{end}_freq")) for end in ("min", "max")]
        if not all(end and end.isdigit() for end in ends):
            return None
        found.append((int(ends[0] or 0), int(ends[1] or 0)))
    return tuple(found) or None


def _supply(kind: str, field: str) -> int | None:
    for supply in sorted(Path("/sys/class/power_supply").glob("*")):
        value = _text(str(supply / field))
        if _text(str(supply / "type")) == kind and value and value.isdigit():
            return int(value)
    return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
