"""A run killed at any moment can be resumed, and loses at most one checkpoint interval."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_tta.train.checkpoint import newest_run_state

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {unit!r})
from test_train_loop import Line, config
from edge_tta.train.loop import Trainer
trainer = Trainer(Line(), config(100000, checkpoint_every=1, log_every=1000), Path(sys.argv[1]))
trainer.resume()
print("started", flush=True)
trainer.train()
"""


def kill_and_resume(directory: Path, times: int, seed: int) -> None:
    draw = random.Random(seed)
    program = PROGRAM.format(unit=str(Path(__file__).parents[1] / "unit"))
    last = 0
    for _ in range(times):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            [sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None and process.stdout.readline().strip() == b"started"
            time.sleep(draw.uniform(0.05, 0.6))
            process.send_signal(signal.SIGKILL)
        state = newest_run_state(directory / "checkpoints")
        assert state is None or state.step >= last
        last = 0 if state is None else state.step
        assert not any(path.stat().st_size == 0 for path in (directory / "checkpoints").glob("step-*/*"))
    assert last > 0


def test_kill_three_times(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 3, seed=1)


@pytest.mark.slow
def test_kill_fifty_times(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 50, seed=2)
