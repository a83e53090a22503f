"""What machine this is, as far as it can be read: a figure without it means nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

INT8_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""CPU flags that decide how fast int8 is; asimddp is Arm's dot product."""


def cpu_model() -> str:
    """Name of the processor."""
    info = _cpu_info()
    return info.get("model name") or info.get("Hardware") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """Those of ``INT8_FEATURES`` this processor has; empty where it cannot be read."""
    info = _cpu_info()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(name for name in INT8_FEATURES if name in flags)


def describe_device() -> dict[str, Any]:
    """Processor, system and state of power and heat; None where it cannot be read."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "model": _text("/sys/class/dmi/id/product_name") or platform.machine(),
        "soc": cpu_model(),
        "abi_features": list(cpu_features()),
        "os": platform.platform(),
        "cores": os.cpu_count(),
        "affinity": affinity,
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "plugged": _supply("Mains", "online"),
        "battery_percent": _supply("Battery", "capacity"),
    }


def temperature_celsius() -> float | None:
    """Hottest thermal zone, °C; None where there is none."""
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    values = [
        int(text) / 1000
        for text in (_text(str(zone)) for zone in zones)
        if text and text.lstrip("-").isdigit()
    ]
    return max(values, default=None)


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
