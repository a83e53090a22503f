"""The command as a process of its own: signals, full disks, streams, and what it loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "edge_tta.cli"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(*arguments: str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_one_megabyte_and_broken_unicode_prompts(toy_bundle: Path, tmp_path: Path) -> None:
    options = ("--bundle", str(toy_bundle))
    result = run("generate", *options, "--file", "-", cwd=tmp_path, stdin=b"r" * 2**20)
    assert result.returncode == 2
    assert result.stderr == b"edge-tta: - line 1: prompt has 1048576 bytes; at most 4096 are allowed\n"
    # A byte that is no UTF-8 arrives in Python as a lone surrogate.
    result = subprocess.run(
        [*(os.fsencode(part) for part in (*COMMAND, "generate", *options)), b"rain \xff"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == b"edge-tta: prompt is not valid Unicode: it holds a lone surrogate\n"
    assert list(tmp_path.iterdir()) == []


def test_generation_needs_no_torch_and_no_network(toy_bundle: Path, tmp_path: Path) -> None:
    code = """
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit("a socket was opened")
socket.socket = socket.create_connection = refuse
sys.modules["torch"] = None
from edge_tta.cli.start import main
sys.argv = ["edge-tta", "generate", "wind", "--bundle", sys.argv[1], "-q"]
main()
"""
    command = [sys.executable, "-c", code, str(toy_bundle)]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["edge-tta.wav"]


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ["edge-tta", "generate", "--help"]
from edge_tta.cli.start import main
try:
    main()
except SystemExit:
    pass
heavy = {"numpy", "onnxruntime", "torch", "soundfile", "sentencepiece", "rich", "scipy"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, timeout=60, check=True
    )
    assert done.stdout.decode().splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 130, b"cancelled"), (signal.SIGTERM, 143, b"terminated")]
)
def test_signals_leave_nothing_behind(
    toy_bundle: Path, tmp_path: Path, number: signal.Signals, code: int, words: bytes
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "prompts.txt").write_text("".join(f"sound number {i}\n" for i in range(20_000)))
    arguments = [
        "generate",
        "--bundle",
        str(toy_bundle),
        "--file",
        "../prompts.txt",
        "-o",
        "out/",
        "--seconds",
        "12",
    ]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=work,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell that starts the tests in the background has them ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(work.glob("out/*.wav"))) < 3:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, stderr
    assert stderr == b"edge-tta: " + words + b"\n"
    names = [path.name for path in (work / "out").iterdir()]
    assert all(name.endswith(".wav") and not name.startswith(".") for name in names)
    sizes = {path.stat().st_size for path in (work / "out").iterdir()}
    assert min(sizes) > 12 * 44100 * 2  # every file is whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 130, b"cancelled"), (signal.SIGTERM, 143, b"terminated")]
)
def test_a_stopped_export_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, code: int, words: bytes
) -> None:
    pytest.importorskip("torch")
    from edge_tta.model.checkpoint import save_part
    from export.tiny import tiny_checkpoint

    tiny, folder, temporary = tiny_checkpoint(), tmp_path / "tiny", tmp_path / "temporary"
    temporary.mkdir()
    for part in ("text_encoder", "generator", "codec"):
        save_part(folder, tiny.config, part, getattr(tiny, part))
    (folder / "tokenizer.model").write_bytes(tiny.tokenizer or b"")
    shipped = ROOT / "checkpoints" / "edge-10m"
    for name in ("bundle.toml", "MODEL_CARD.md", "ATTRIBUTIONS.csv"):
        (folder / name).write_bytes((shipped / name).read_bytes())

    def left() -> list[Path]:
        # ONNX Runtime leaves its mark wherever it is imported.
        return sorted(path for path in tmp_path.rglob("*") if path.name != ".ses")

    before = left()
    process = subprocess.Popen(
        [*COMMAND, "export", "tiny", "--precision", "fp32", "-o", "new/bundle"],
        cwd=tmp_path,
        env=ENVIRONMENT | {"TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stderr is not None
    try:
        told = next(line for line in process.stderr if b"exporting generator" in line)
        time.sleep(0.5)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert told and process.returncode == code, stderr
    assert stderr.splitlines()[-1] == b"edge-tta: " + words
    assert left() == before


SIGNALLED_IN_A_FINALIZER = """
import os, sys, time
from edge_tta.cli.start import main
from edge_tta.runtime import pipeline
number, load = int(sys.argv.pop(1)), pipeline.load_bundle
class Forgotten:
    def __del__(self):
        os.kill(os.getpid(), number)
        time.sleep(1)
def load_and_forget(*arguments):
    Forgotten()
    time.sleep(100)
pipeline.load_bundle = load_and_forget
main()
"""


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 130, b"cancelled"), (signal.SIGTERM, 143, b"terminated")]
)
def test_signals_where_python_ignores_exceptions(
    toy_bundle: Path, tmp_path: Path, number: signal.Signals, code: int, words: bytes
) -> None:
    command = [sys.executable, "-c", SIGNALLED_IN_A_FINALIZER, str(int(number))]
    done = subprocess.run(
        [*command, "generate", "wind", "--bundle", str(toy_bundle)],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=60, check=False,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, b"edge-tta: " + words + b"\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_on_a_full_disk(toy_bundle: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "generate", "wind", "--bundle", str(toy_bundle), "-o", "-", "-q"],
            cwd=tmp_path, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == b"edge-tta: cannot write to standard output: No space left on device\n"


def test_reader_of_standard_output_goes_away(toy_bundle: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "generate", "wind", "--bundle", str(toy_bundle), "-o", "-", "-q", "--seconds", "12"],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(120) == 2
    assert process.stderr.read() == b"edge-tta: cannot write to standard output: Broken pipe\n"
    process.stderr.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("mounting a small file system needs the superuser")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_disk_that_is_really_full(toy_bundle: Path, small_disk: Path) -> None:
    (small_disk / "sound.wav").write_bytes(b"the old sound")
    for target in ("sound.wav", "other.wav"):
        result = run("generate", "wind", "--bundle", str(toy_bundle), "-o", target, cwd=small_disk)
        assert result.returncode == 2
        assert result.stderr == f"edge-tta: cannot write {target}: the disk is full\n".encode()
        assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == {
            "sound.wav": b"the old sound"
        }


def test_a_disk_that_is_read_only(toy_bundle: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = run("generate", "wind", "--bundle", str(toy_bundle), "-o", "sound.wav", cwd=small_disk)
    assert result.returncode == 2
    assert result.stderr == b"edge-tta: cannot write sound.wav: no permission to write in .\n"
    assert list(small_disk.iterdir()) == []


MEMORY_LIMITED = """
import resource, sys
from edge_tta.cli.start import main
from edge_tta.runtime import pipeline
load, spare = pipeline.load_bundle, int(sys.argv.pop(1)) * 2**20
def load_then_limit(*arguments):
    model = load(*arguments)
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, used + spare))
    return model
pipeline.load_bundle = load_then_limit
main()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.parametrize("spare", [1, 16, 64, 1024])
def test_too_little_memory(tmp_path: Path, spare: int) -> None:
    tiny = ROOT / "tests" / "golden" / "edge-tiny"
    arguments = ["generate", "wind", "--bundle", str(tiny), "--precision", "fp32", "--threads", "1", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_LIMITED, str(spare), *arguments, "--seconds", "12"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    if spare == 1024:
        assert (done.returncode, done.stderr) == (0, b"")
        return
    assert done.returncode == 4
    assert done.stderr.startswith(b"edge-tta: ") and done.stderr.count(b"\n") == 1
    assert b"memory" in done.stderr
    assert list(tmp_path.iterdir()) == []


SIGNALLED_AT_AN_IMPORT = """
import os, signal, sys
number, wanted = int(sys.argv.pop(1)), sys.argv.pop(1)
class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Signalling())
from edge_tta.cli.start import main
main()
"""


@pytest.mark.parametrize("at", ["edge_tta.cli.main", "typer", "edge_tta.cli.verify", "numpy", "onnxruntime"])
@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 130, b"cancelled"), (signal.SIGTERM, 143, b"terminated")]
)
def test_signals_while_anything_is_loaded(
    toy_bundle: Path, tmp_path: Path, at: str, number: signal.Signals, code: int, words: bytes
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED_AT_AN_IMPORT, str(int(number)), at, "generate", "--bundle", str(toy_bundle)],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=120, check=False,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, b"edge-tta: " + words + b"\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [("info",), ("info", "--json"), ("--help",), ("info", "--help"), ("doctor",)]
)
def test_results_for_people_on_a_full_disk(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"edge-tta: ") and done.stderr.endswith(b"No space left on device\n")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("arguments", [("info",), ("recipes", "ls"), ("--help",)])
def test_reader_of_results_goes_away(arguments: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(120) == 2
    assert process.stderr.read() == b"edge-tta: cannot write to standard output: Broken pipe\n"
    process.stderr.close()


def test_streams_that_are_closed(toy_bundle: Path, tmp_path: Path) -> None:
    def shell(line: str) -> subprocess.CompletedProcess[bytes]:
        command = ["sh", "-c", f'"$@" {line}', "sh", *COMMAND]
        return subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=120, check=False
        )

    none = b"edge-tta: cannot write to standard output: there is none\n"
    for verb in ("info", f"generate wind --bundle {toy_bundle} -o - -q"):
        done = shell(f"{verb} >&-")
        assert (done.returncode, done.stderr) == (2, none)
    done = shell("generate --file - <&-")
    assert (done.returncode, done.stderr) == (2, b"edge-tta: -: there is no standard input to read\n")
    assert shell("info nowhere 2>&-").returncode == 3
    assert shell("info nowhere 2>/dev/full").returncode == 3
