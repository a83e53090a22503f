"""Two processes train as one: the same weights on both ranks, and the weights one process finds with both batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from tiny_data import write_checkpoint, write_clips

from edge_tta.model.checkpoint import load_model_checkpoint

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {unit!r})
import torch
from safetensors.torch import save_file
from test_train_loop import Line, config
from edge_tta.train.loop import Trainer
torch.set_num_threads(1)
output, accumulate = Path(sys.argv[1]), int(sys.argv[2])
trainer = Trainer(Line(), config(10, device="cpu", accumulate=accumulate), output)
trainer.train()
assert trainer.step == 10
index = trainer.processes.index
values = {{name: value.contiguous() for name, value in trainer.state().weights.items()}}
save_file(values, output / f"rank-{{index}}.safetensors")
"""


RECIPE = """
import os, sys
from pathlib import Path
import torch
import edge_tta.train.latent_sets as latent_sets
import edge_tta.train.run as run
from edge_tta.cli.start import main
torch.set_num_threads(1)
notes = Path({notes!r}) / f"rank-{{os.environ['RANK']}}.txt"

def noted(function, what):
    def call(*arguments, **settings):
        with notes.open("a") as stream:
            print(what, file=stream)
        return function(*arguments, **settings)
    return call

latent_sets.build_latent_shard = noted(latent_sets.build_latent_shard, "encodes")
run.Scalars = noted(run.Scalars, "opens an event file")
run.Trainer.export = noted(run.Trainer.export, "exports")
notes.write_text("")
main()
"""


def launch(program: Path, processes: int, *arguments: str) -> str:
    """Run a program in so many processes; its standard output."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(program), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    ).stdout


def run(directory: Path, processes: int, accumulate: int) -> list[dict[str, torch.Tensor]]:
    directory.mkdir()
    program = directory / "program.py"
    program.write_text(PROGRAM.format(unit=str(Path(__file__).parents[1] / "unit")))
    launch(program, processes, str(directory), str(accumulate))
    return [load_file(directory / f"rank-{index}.safetensors") for index in range(processes)]


def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    first, second = run(tmp_path / "two", 2, 1)
    (alone,) = run(tmp_path / "one", 1, 2)
    for name, value in first.items():
        assert torch.equal(value, second[name])
        torch.testing.assert_close(value, alone[name], atol=1e-6, rtol=1e-5)
    log = [(tmp_path / name / "log.jsonl").read_text().splitlines()[0] for name in ("two", "one")]
    losses = [float(line.split('"loss": ')[1].split(",")[0].rstrip("}")) for line in log]
    assert abs(losses[0] - losses[1]) < 1e-5


def test_a_recipe_in_two_processes_prepares_and_writes_once(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    write_checkpoint(tmp_path / "model", ("codec", "text_encoder"))
    program = tmp_path / "program.py"
    program.write_text(RECIPE.format(notes=str(tmp_path)))
    settings = (
        "preset=edge-tiny", "data.num_windows=8", "data.num_validation_windows=4", "data.windows.max_seconds=0.8",
        "data.windows.short_seconds=0.6", "generator.frames=300", "loop.steps=3", "loop.warmup_steps=1",
        "loop.device=cpu", "generator.sample_prompts=[]", f"checkpoint={tmp_path / 'model'}",
        f"data.cache={tmp_path / 'cache'}", f"data.folder={tmp_path / 'clips'}",
    )  # fmt: skip
    changes = [part for setting in settings for part in ("--set", setting)]
    said = launch(program, 2, "train", "flow", *changes, "-o", str(tmp_path / "run"), "--json", "--quiet")
    assert json.loads(said)["finished"]
    first, second = ((tmp_path / f"rank-{rank}.txt").read_text().splitlines() for rank in (0, 1))
    assert first == ["encodes", "encodes", "opens an event file", "exports"] and second == []
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    assert load_model_checkpoint(tmp_path / "model").generator is not None
