"""Two processes train as one: the same weights on both ranks, and the weights one process finds with both batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

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


def run(directory: Path, processes: int, accumulate: int) -> list[dict[str, torch.Tensor]]:
    directory.mkdir()
    program = directory / "program.py"
    program.write_text(PROGRAM.format(unit=str(Path(__file__).parents[1] / "unit")))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    subprocess.run(
        [
            sys.executable,
            *(launcher if processes > 1 else []),
            str(program),
            str(directory),
            str(accumulate),
        ],
        check=True,
        capture_output=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
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
