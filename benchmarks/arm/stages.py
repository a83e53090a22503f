"""Run on the machine under test: ONNX Runtime's variants of a bundle on many requests.

    python stages.py BUNDLE CASES VARIANT...

prints JSON, a list with variant, stage, requests, snr_db and max_abs_error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.arm.cases import Case, Cases, judge_stages, read_cases
from edge_tta.bundle import Bundle
from edge_tta.runtime.backend import load_variant


def check_variant(bundle: Bundle, variant: str, cases: Cases) -> list[dict[str, Any]]:
    """Stages of one variant on all requests, one thread."""
    backend = load_variant(bundle, variant, 1).backend

    def answer(stage: str, _: int, case: Case) -> NDArray[Any]:
        given = case.inputs
        if stage == "text_encoder":
            return backend.text_encoder(given["ids"])[0]
        if stage == "decoder":
            return backend.decoder(given["latent"])
        time, duration, seconds, guidance = (
            float(given[name].item()) for name in ("time", "duration", "seconds", "guidance")
        )
        text = given["tokens"], given["pooled"]
        return backend.generator(given["latent"], time, duration, text, seconds, guidance)

    try:
        return [{"variant": variant, **stage} for stage in judge_stages(cases, answer)]
    finally:
        backend.close()


if __name__ == "__main__":
    source, requests, *variants = sys.argv[1:]
    opened, asked = Bundle.open(source), read_cases(Path(requests))
    print(json.dumps([stage for name in variants for stage in check_variant(opened, name, asked)]))
