"""The study killed at any moment: the same commands go on, and end with the results of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from study_cases import PLAN, judge_arguments, train_arguments, write_desk

from benchmarks.acceleration.records import read_records

NURSERY = """
import json, os, signal, sys
import benchmarks.acceleration.judge, benchmarks.acceleration.train
from benchmarks.acceleration.__main__ import main

WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
seen = 0

def writes(event, arguments):
    if event != "open":
        return event in WRITES
    _, mode, flags = arguments
    return any(sign in mode for sign in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))

def watch(number, delay):
    def hook(event, arguments):
        global seen
        if writes(event, arguments):
            seen += 1
            if seen == number:
                # The timer's signal ends the process as it is; nothing is cleaned up, nothing is flushed.
                signal.setitimer(signal.ITIMER_REAL, delay) if delay else os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for line in sys.stdin:
    number, delay, count, words = json.loads(line)
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        watch(number, delay)
        code = main(words)
        with open(count, "w") as stream:
            stream.write(str(seen))
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Everything is imported once; every command runs in a child that dies before its write of a given number, or a little
after it."""
STRIDE = 13
"""Training writes some 400 times; this many writes lie between two kills that are tried."""
TIMINGS = {"seconds", "seconds_per_step", "times", "load", "date", "commit"}
SMALL = PLAN[: PLAN.index("[[ablations]]")].replace("steps = [1, 2]", "steps = [1]")
"""Nothing is compared."""


class Nursery:
    """Runs commands of the study in children of one process, and has them killed."""

    def __init__(self, process: subprocess.Popen[str], count: Path) -> None:
        self.process, self.count = process, count

    def run(self, words: list[str], number: int = 0, delay: float = 0.0) -> int:
        """Exit code of a command, negative if a signal ended it; the ``number``-th write is its last."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps([number, delay, str(self.count), words]), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def writes(self) -> int:
        """Writes of the last command that ended by itself."""
        return int(self.count.read_text())


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Nursery(process, tmp_path_factory.mktemp("count") / "count")
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    write_desk(root, SMALL)
    return root


@pytest.fixture(scope="module")
def undisturbed(desk: Path, nursery: Nursery) -> tuple[Path, int, int]:
    """The study's folder, and the number of writes of training and judging."""
    writes = []
    for words in (train_arguments(desk, desk / "work"), judge_arguments(desk, desk / "work")):
        assert nursery.run(words) == 0
        writes.append(nursery.writes())
    return desk / "work", writes[0], writes[1]


def untimed(value: Any) -> Any:
    """A record without what a clock or a calendar has put into it."""
    if isinstance(value, dict):
        return {name: untimed(item) for name, item in value.items() if name not in TIMINGS}
    return value


def results_of(work: Path) -> list[Any]:
    assert read_records(work / "results.jsonl")
    return [untimed(json.loads(line)) for line in (work / "results.jsonl").read_text("utf-8").splitlines()]


def files_of(work: Path) -> set[str]:
    """Every file but those tensorboard names by the clock."""
    found = (path.relative_to(work) for path in work.rglob("*") if path.is_file())
    return {str(path) for path in found if "tensorboard" not in path.parts}


def disturb(nursery: Nursery, words: list[str], writes: int, kills: int, draw: random.Random) -> int:
    """Run a command until it ends by itself, killed at most so many times; how many kills struck."""
    struck = 0
    for _ in range(kills):
        number, delay = draw.randint(1, max(1, writes // 2)), draw.choice([0.0, draw.uniform(1e-5, 3e-3)])
        code = nursery.run(words, number, delay)
        if code == 0:
            return struck
        assert code in (-signal.SIGKILL, -signal.SIGALRM)
        struck += 1
    assert nursery.run(words) == 0
    return struck


def check(
    desk: Path, undisturbed: tuple[Path, int, int], nursery: Nursery, work: Path, kills: int, seed: int
) -> int:
    whole, training, judging = undisturbed
    draw = random.Random(seed)
    struck = disturb(nursery, train_arguments(desk, work), training, kills, draw)
    struck += disturb(nursery, judge_arguments(desk, work), judging, kills, draw)
    assert results_of(work) == results_of(whole)
    assert files_of(work) == files_of(whole)
    return struck


Check = Callable[..., int]


@pytest.mark.parametrize("seed", [1])
def test_a_study_that_is_killed_goes_on_and_ends_the_same(
    desk: Path, undisturbed: tuple[Path, int, int], nursery: Nursery, tmp_path: Path, seed: int
) -> None:
    assert check(desk, undisturbed, nursery, tmp_path / "work", 3, seed) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_study_that_is_killed_often_goes_on_and_ends_the_same(
    desk: Path, undisturbed: tuple[Path, int, int], nursery: Nursery, tmp_path: Path, seed: int
) -> None:
    assert check(desk, undisturbed, nursery, tmp_path / "work", 12, seed) >= 5


@pytest.mark.slow
def test_a_study_that_is_killed_once_anywhere_goes_on_and_ends_the_same(
    desk: Path, undisturbed: tuple[Path, int, int], nursery: Nursery, tmp_path: Path
) -> None:
    whole, training, judging = undisturbed
    for number in range(1, training + judging + 1, STRIDE):
        work = tmp_path / str(number)
        train, judge = train_arguments(desk, work), judge_arguments(desk, work)
        assert nursery.run(train, number if number <= training else 0) == (
            -signal.SIGKILL if number <= training else 0
        )
        assert nursery.run(train) == 0
        if number > training:
            assert nursery.run(judge, number - training) == -signal.SIGKILL
        assert nursery.run(judge) == 0
        assert results_of(work) == results_of(whole), number
        assert files_of(work) == files_of(whole), number
