"""A tiny acceleration study: plan, start, clips, tagger and prompts, and the commands that work on them."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_data import LABELS, write_checkpoint, write_clips

from edge_tta.evaluate.tagger import TaggerConfig, build_network, save_tagger

PLAN = """
title = "Tiny study"
steps = [1, 2]
overrides = [
    "data.num_windows=12", "data.num_validation_windows=4", "data.windows.max_seconds=1.0",
    "data.windows.short_seconds=0.8", "generator.frames=400", "loop.warmup_steps=1",
]
[budget]
steps = 4

[[entries]]
name = "flow"
recipe = "flow"
sampler = "classifier-free"
guidance = 3.0

[[entries]]
name = "half"
recipe = "integrated-flow"
group = "stages"
share = 0.5
teacher = "start"
sampler = "euler"
guidance = 3.0

[[entries]]
name = "jumps"
label = "ARC after it"
recipe = "arc"
share = 0.5
start = "half"
teacher = "start"
sampler = "ping-pong"
guidance = 1.0

[[entries]]
name = "unguided"
recipe = "integrated-flow"
group = "ablations"
budget = { steps = 0 }
start = "half"
sampler = "euler"
guidance = 1.0

[[ablations]]
title = "Guidance"
entries = ["unguided", "jumps"]

[[findings]]
source = "a paper"
claim = "jumps are better"
paper = "1 against 2"
figure = "frechet"
first = "jumps@1"
relation = "below"
second = "flow@1"
"""


def write_tagger(folder: Path) -> None:
    config = TaggerConfig(widths=(8, 12, 16), embedding=8, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_tagger(build_network(2, config), LABELS, config, folder)


def write_desk(root: Path, plan: str) -> None:
    """Everything a study needs."""
    write_clips(root / "clips")
    write_checkpoint(root / "start")
    write_tagger(root / "tagger")
    (root / "plan.toml").write_text(plan, encoding="utf-8")
    (root / "prompts.csv").write_text(
        "prompt,label\nrain falling,rain\na piano note,piano\n", encoding="utf-8"
    )


def train_arguments(root: Path, work: Path) -> list[str]:
    given = {
        "study": root / "plan.toml", "start": root / "start", "data": root / "clips", "cache": root / "cache",
        "work": work,
    }  # fmt: skip
    return ["train", *(text for name, path in given.items() for text in (f"--{name}", str(path)))]


def judge_arguments(root: Path, work: Path) -> list[str]:
    given = {
        "study": root / "plan.toml", "reference": root / "clips", "tagger": root / "tagger",
        "prompts": root / "prompts.csv", "seconds": 0.4, "work": work,
    }  # fmt: skip
    return ["judge", *(text for name, value in given.items() for text in (f"--{name}", str(value)))]
