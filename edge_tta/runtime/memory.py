"""How much memory the process holds."""

from __future__ import annotations

import sys


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far, bytes; 0 where the platform does not tell.

    Linux: VmHWM, because ``ru_maxrss`` starts with what the parent held before exec.
    """
    high_water = _status_bytes("VmHWM")
    if high_water:
        return high_water
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def current_rss_bytes() -> int:
    """Resident memory of this process now, bytes; 0 where the platform does not tell."""
    return _status_bytes("VmRSS")


def _status_bytes(key: str) -> int:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
            for line in stream:
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return 0
    return 0


def give_back_freed_memory() -> None:
    """Return freed heap pages to the system.

    glibc keeps what large buffers have freed for later allocations of the process; other C libraries have no such
    call and need none.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
