"""Files appear whole or not at all, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_tta import files
from edge_tta.errors import OutputError
from edge_tta.files import make_folder, write_file

SOUND = bytes(2046)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "Input/output error"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_a_failing_disk_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    # A full disk often shows only when written data is forced out.
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=words) as caught:
        write_file(path, SOUND)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.wav"]


def test_a_file_that_outgrows_its_limit_leaves_nothing(tmp_path: Path) -> None:
    """The operating system itself cuts the write short."""
    code = """
import resource, signal, sys
from pathlib import Path
from edge_tta.files import write_file
from edge_tta.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path(sys.argv[1]), bytes(100_000))
except OutputError as error:
    print(error)
"""
    path = tmp_path / "a.wav"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"cannot write {path}: File too large"
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_write_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a.wav", SOUND)
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real.wav").write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to("real.wav")
    write_file(tmp_path / "link.wav", SOUND)
    assert (tmp_path / "link.wav").is_symlink()
    assert (tmp_path / "real.wav").read_bytes() == SOUND


def test_a_fifo_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(OutputError, match="not a regular file"):
        write_file(tmp_path / "a.wav", SOUND)
    assert (tmp_path / "a.wav").is_fifo() and os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("name", ["a\0b.wav", "\udc80\ud800.wav", "x" * 300 + ".wav"])
def test_impossible_file_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_file(tmp_path / name, SOUND)
    assert os.listdir(tmp_path) == []


def test_the_longest_possible_name_works(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".wav")
    write_file(path, SOUND)
    assert os.listdir(tmp_path) == [path.name]


def test_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    contents = [bytes([value]) * 50_000 for value in range(8)]
    failures: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(5):
                write_file(path, content)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and path.read_bytes() in contents and os.listdir(tmp_path) == ["a.bin"]


def test_missing_directory_and_directory_as_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_file(tmp_path / "no" / "a.wav", SOUND)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is not a directory"):
        write_file(tmp_path / "file" / "a.wav", SOUND)
    (tmp_path / "file").unlink()
    (tmp_path / "d.wav").mkdir()
    with pytest.raises(OutputError, match="directory"):
        write_file(tmp_path / "d.wav", SOUND)
    assert sorted(os.listdir(tmp_path)) == ["d.wav"]


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(OutputError, match="cannot be made a folder"):
            make_folder(folder)
