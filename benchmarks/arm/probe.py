"""Run on the machine under test: what processor it is, and whether its noise is everybody's noise."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

from edge_tta.noise import gaussian_noise

SEED, SHAPE = 7, (64, 64)


def processor_features() -> list[str]:
    """Features that Linux names in ``/proc/cpuinfo``."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = [line.partition(":")[2] for line in lines if line.startswith(("Features", "flags"))]
    return sorted(set(named[0].split())) if named else []


if __name__ == "__main__":
    noise = gaussian_noise(SEED, SHAPE).astype("<f4").tobytes()
    print(
        json.dumps(
            {
                "architecture": platform.machine(),
                "python": platform.python_version(),
                "features": processor_features(),
                "noise_sha256": hashlib.sha256(noise).hexdigest(),
            }
        )
    )
