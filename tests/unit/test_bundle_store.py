"""Opening and writing bundles: by path, by name, whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_tta.bundle import Bundle, assemble, files, shipped
from edge_tta.bundle.assemble import describe, write_bundle
from edge_tta.bundle.files import read_regular_file
from edge_tta.bundle.manifest import MANIFEST_NAME, Manifest
from edge_tta.bundle.store import Bundle as StoreBundle
from edge_tta.errors import BundleError, OutputError

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny"
ROOT = Path(__file__).resolve().parents[2]


def parts() -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and files of the tiny bundle."""
    bundle = Bundle.open(TINY)
    return bundle.manifest, {entry.file: bundle.read(entry) for entry in bundle.manifest.files()}


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_an_opened_bundle_says_what_it_is() -> None:
    bundle = Bundle.open(str(TINY))
    assert bundle.root == TINY and bundle.name == f"edge-tiny@{bundle.digest[:12]}"
    assert list(bundle.variants) == ["ort-fp32"] and bundle.config.name == "edge-tiny"
    assert bundle.tokenizer_bytes() == (TINY / "tokenizer.model").read_bytes()


def test_golden_arrays_are_those_of_numpy() -> None:
    golden = Bundle.open(TINY).golden()
    with np.load(TINY / "golden.npz", allow_pickle=False) as archive:
        assert sorted(golden) == sorted(archive.files)
        for name, array in golden.items():
            assert array.dtype == archive[name].dtype and np.array_equal(array, archive[name])
            assert array.flags.writeable


def test_opening_reads_every_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(root: Path, name: str, *limits: int) -> bytes:
        read.append(name)
        return read_regular_file(root, name, *limits)

    monkeypatch.setattr("edge_tta.bundle.store.read_regular_file", counted)
    bundle = Bundle.open(TINY)
    named = {entry.file for entry in bundle.manifest.files()}
    assert sorted(read) == sorted(named | {MANIFEST_NAME})
    read.clear()
    Bundle.open(TINY, verify=False)
    assert read == [MANIFEST_NAME]


def test_shipped_bundles_open_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(TINY, tmp_path / "assets" / "edge-tiny")
    (tmp_path / "assets" / "no-bundle").mkdir()
    monkeypatch.setattr(shipped, "ASSETS", tmp_path / "assets")
    assert Bundle.open("edge-tiny").root == tmp_path / "assets" / "edge-tiny"
    with pytest.raises(BundleError, match=r"no bundle 'edge-10m'.*shipped: edge-tiny"):
        Bundle.open()
    monkeypatch.setattr("edge_tta.bundle.store.DEFAULT_BUNDLE", "edge-tiny")
    assert Bundle.open().root == Bundle.open("edge-tiny").root


def test_a_path_wins_when_it_is_written_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(TINY, tmp_path / "assets" / "edge-tiny")
    shutil.copytree(TINY, tmp_path / "here" / "edge-tiny")
    monkeypatch.setattr(shipped, "ASSETS", tmp_path / "assets")
    monkeypatch.chdir(tmp_path / "here")
    assert Bundle.open("./edge-tiny").root.resolve() == tmp_path / "here" / "edge-tiny"
    assert Bundle.open("edge-tiny").root == tmp_path / "assets" / "edge-tiny"
    # The dot is lost in a path object, which is no name in any case.
    assert Bundle.open(Path("./edge-tiny")).root.resolve() == tmp_path / "here" / "edge-tiny"
    shutil.rmtree(tmp_path / "here" / "edge-tiny")
    with pytest.raises(BundleError, match=r"no bundle 'edge-tiny'.*shipped: edge-tiny"):
        Bundle.open(Path("edge-tiny"))


def test_a_directory_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.open(tmp_path)
    assert str(caught.value) == f"{tmp_path} is no bundle: there is no manifest.json in it"


def test_a_file_is_no_bundle() -> None:
    with pytest.raises(BundleError, match="is a file; a bundle is the directory"):
        Bundle.open(TINY / "manifest.json")


def test_hard_links_are_ordinary_files(tmp_path: Path) -> None:
    """Package managers install from their cache with hard links."""
    for path in TINY.rglob("*"):
        target = tmp_path / "bundle" / path.relative_to(TINY)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "cached")
            os.link(tmp_path / "cached", target)
            (tmp_path / "cached").unlink()
            os.link(target, tmp_path / f"second-{path.name}")
    assert (tmp_path / "bundle" / "manifest.json").stat().st_nlink == 2
    Bundle.open(tmp_path / "bundle")


def test_files_the_manifest_does_not_name_are_ignored(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "bundle")
    (tmp_path / "bundle" / ".DS_Store").write_bytes(b"junk")
    (tmp_path / "bundle" / "more").mkdir()
    assert Bundle.open(tmp_path / "bundle").digest == Bundle.open(TINY).digest


def test_a_link_to_the_whole_bundle_is_the_callers_choice(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(TINY)
    assert Bundle.open(tmp_path / "current").digest == Bundle.open(TINY).digest


def test_the_way_for_systems_without_directory_handles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "_CAN_WALK", False)
    assert Bundle.open(TINY).tokenizer_bytes() == (TINY / "tokenizer.model").read_bytes()
    for kind, word in (("link", "link"), ("folder", "link"), ("fifo", "regular"), ("gone", "missing")):
        bundle = Path(shutil.copytree(TINY, tmp_path / kind))
        path = bundle / "tokenizer.model"
        if kind == "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        elif kind == "folder":
            (bundle / "ort-fp32").rename(bundle / "other")
            (bundle / "ort-fp32").symlink_to("other")
        else:
            path.unlink()
            if kind == "fifo":
                os.mkfifo(path)
        with pytest.raises(BundleError, match=word):
            Bundle.open(bundle)


def test_a_file_swapped_between_look_and_open_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "_CAN_WALK", False)
    bundle = Path(shutil.copytree(TINY, tmp_path / "bundle"))
    shutil.copy(bundle / "tokenizer.model", tmp_path / "other")
    real_open = os.open

    def swap_then_open(path: str, flags: int, *more: int) -> int:
        if str(path).endswith("tokenizer.model"):
            os.replace(tmp_path / "other", path)
        return real_open(path, flags, *more)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(BundleError, match="was swapped"):
        Bundle.open(bundle)


def test_a_size_that_is_not_there_reserves_no_memory(tmp_path: Path) -> None:
    """The announced size is compared with the file before anything is read."""
    (tmp_path / "small").write_bytes(b"x")
    with pytest.raises(BundleError, match="small: 1 bytes, the manifest says 2000000000"):
        files.read_regular_file(tmp_path, "small", 2**31, 2_000_000_000)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 10)
    real_fdopen = os.fdopen

    def grow(handle: int, mode: str) -> object:
        path.write_bytes(b"x" * 20)
        return real_fdopen(handle, mode)

    monkeypatch.setattr(os, "fdopen", grow)
    with pytest.raises(BundleError, match="changed its size"):
        files.read_regular_file(tmp_path, "growing", 100)


def test_reading_leaves_no_handle_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        Bundle.open(TINY)
        with pytest.raises(BundleError):
            files.read_regular_file(TINY, "ort-fp32/missing", 10)
        with pytest.raises(BundleError):
            files.read_regular_file(TINY, "ort-fp32", 10)
    assert len(os.listdir("/proc/self/fd")) == before


# ---- writing


def test_writing_and_opening_again_is_exact(tmp_path: Path) -> None:
    manifest, contents = parts()
    first = write_bundle(tmp_path / "a", manifest, contents)
    write_bundle(tmp_path / "b", manifest, dict(reversed(contents.items())))
    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(TINY)
    assert first.digest == manifest.digest
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_parents_are_made_and_odd_targets_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, contents = parts()
    write_bundle(tmp_path / "x" / "y" / "z", manifest, contents)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_bundle(Path("."), manifest, contents)
    assert (tmp_path / "here" / "manifest.json").is_file()


def test_a_bundle_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    manifest, contents = parts()
    write_bundle(tmp_path / "a", manifest, contents)
    newer = manifest.model_copy(update={"version": "2.0.0"})
    assert write_bundle(tmp_path / "a", newer, contents).manifest.version == "2.0.0"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(BundleError, match="is no bundle"):
        write_bundle(tmp_path / "home", manifest, contents)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="is no bundle"):
        write_bundle(tmp_path / "file", manifest, contents)
    assert (tmp_path / "home" / "letters.txt").read_text() == "dear"
    assert sorted(os.listdir(tmp_path)) == ["a", "file", "home"]


def test_a_link_to_a_bundle_stays_a_link(tmp_path: Path) -> None:
    manifest, contents = parts()
    write_bundle(tmp_path / "v1", manifest, contents)
    (tmp_path / "current").symlink_to("v1")
    write_bundle(tmp_path / "current", manifest.model_copy(update={"version": "2.0.0"}), contents)
    assert (tmp_path / "current").is_symlink() and Bundle.open(tmp_path / "v1").manifest.version == "2.0.0"


@pytest.mark.parametrize("change", ["missing", "extra", "other bytes"])
def test_files_and_manifest_agree(tmp_path: Path, change: str) -> None:
    manifest, contents = parts()
    if change == "missing":
        del contents["MODEL_CARD.md"]
    elif change == "extra":
        contents["weights.bin"] = b"x"
    else:
        contents["MODEL_CARD.md"] += b"!"
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md|weights\.bin"):
        write_bundle(tmp_path / "a", manifest, contents)
    assert os.listdir(tmp_path) == []


def test_an_older_bundle_survives_a_newer_one_that_would_not_open(tmp_path: Path) -> None:
    manifest, contents = parts()
    write_bundle(tmp_path / "a", manifest, contents)
    graph = b"not a graph"
    variant = manifest.variants["ort-fp32"]
    stage = variant.stages["decoder"].model_copy(update=describe("ort-fp32/decoder.onnx", graph).model_dump())
    broken = variant.model_copy(update={"stages": {**variant.stages, "decoder": stage}})
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        write_bundle(
            tmp_path / "a",
            manifest.model_copy(update={"variants": {"ort-fp32": broken}}),
            contents | {"ort-fp32/decoder.onnx": graph},
        )
    assert tree(tmp_path / "a") == tree(TINY) and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("failing", [0, 3, 6])
def test_a_failing_disk_keeps_the_older_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, failing: int
) -> None:
    manifest, contents = parts()
    write_bundle(tmp_path / "a", manifest, contents)
    calls, write = [0], assemble._write

    def fail(path: Path, content: bytes) -> None:
        calls[0] += 1
        if calls[0] > failing:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[: len(content) // 2])
            raise OSError(code, os.strerror(code))
        write(path, content)

    monkeypatch.setattr(assemble, "_write", fail)
    with pytest.raises(OutputError, match=os.strerror(code)):
        write_bundle(tmp_path / "a", manifest.model_copy(update={"version": "2.0.0"}), contents)
    assert tree(tmp_path / "a") == tree(TINY) and os.listdir(tmp_path) == ["a"]


def test_a_rename_that_fails_puts_the_older_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, contents = parts()
    write_bundle(tmp_path / "a", manifest, contents)
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if ".tmp-" in Path(source).name:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_bundle(tmp_path / "a", manifest, contents)
    assert tree(tmp_path / "a") == tree(TINY) and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("moment", "older"),
    [
        ("a file", True),
        ("a file", False),
        ("the manifest", True),
        ("the manifest", False),
        ("moving aside", True),
        ("moved aside", True),
        ("taking its place", True),
        ("taking its place", False),
    ],
)
def test_an_interrupted_writer_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, older: bool
) -> None:
    manifest, contents = parts()
    target = tmp_path / "new" / "folder" / "a"
    if older:
        write_bundle(target, manifest, contents)
    before = sorted(tmp_path.rglob("*"))
    write, replace = assemble._write, os.replace

    def stopped_write(path: Path, content: bytes) -> None:
        write(path, content)
        if path.name == {"a file": "decoder.onnx", "the manifest": MANIFEST_NAME}.get(moment):
            raise KeyboardInterrupt

    def stopped_replace(source: Path, goal: Path) -> None:
        aside = ".old-" in Path(goal).name
        if moment == ("moving aside" if aside else "taking its place") and ".old-" not in Path(source).name:
            raise KeyboardInterrupt
        replace(source, goal)
        if aside and moment == "moved aside":
            raise KeyboardInterrupt

    monkeypatch.setattr(assemble, "_write", stopped_write)
    monkeypatch.setattr(os, "replace", stopped_replace)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(target, manifest.model_copy(update={"version": "2.0.0"}), contents)
    assert sorted(tmp_path.rglob("*")) == before
    assert not older or tree(target) == tree(TINY)


def dead_process() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_killed_writers_are_swept(tmp_path: Path) -> None:
    manifest, contents = parts()
    dead = dead_process()
    shutil.copytree(TINY, tmp_path / f".a.tmp-{dead}")
    (tmp_path / f".a.tmp-{os.getppid()}").mkdir()
    (tmp_path / f".other.tmp-{dead}").mkdir()
    write_bundle(tmp_path / "a", manifest, contents)
    assert sorted(os.listdir(tmp_path)) == sorted(["a", f".a.tmp-{os.getppid()}", f".other.tmp-{dead}"])


def test_a_bundle_moved_aside_by_a_killed_writer_comes_back(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / f".a.old-{dead_process()}")
    assemble.sweep(tmp_path / "a")
    assert tree(tmp_path / "a") == tree(TINY) and os.listdir(tmp_path) == ["a"]


def test_killed_writers_leave_a_whole_bundle(tmp_path: Path) -> None:
    """Kills at different moments of rewriting one bundle."""
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import write_bundle
bundle = Bundle.open({str(TINY)!r})
files = {{entry.file: bundle.read(entry) for entry in bundle.manifest.files()}}
print("ready", flush=True)
count = 0
while True:
    count += 1
    changed = bundle.manifest.model_copy(update={{"version": f"1.0.{{count % 10000}}"}})
    write_bundle(Path(sys.argv[1]), changed, files)
"""
    target = tmp_path / "a"
    shutil.copytree(TINY, target)
    for attempt in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.007 * attempt)
        process.kill()
        process.wait()
        process.stdout.close()
        assemble.sweep(target)
        Bundle.open(target)
        assert os.listdir(tmp_path) == ["a"]


def test_one_class_under_both_names() -> None:
    assert Bundle is StoreBundle


def test_an_archive_written_by_numpy_is_read(tmp_path: Path) -> None:
    from edge_tta.bundle.golden import read_arrays

    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
        "c": np.array(1.5),
        "d": np.zeros((0, 3), np.float16),
        "e": np.arange(3, dtype=">f4"),
    }
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays)  # type: ignore[arg-type]
        found = read_arrays("golden.npz", buffer.getvalue())
        assert sorted(found) == sorted(arrays)
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
        assert all(array.dtype.isnative for array in found.values())


def test_a_digest_may_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = Bundle.open(TINY).digest
    for asked in (Bundle.open(TINY).name, f"edge-tiny@{digest}", f"{TINY}@{digest[:12]}"):
        monkeypatch.setattr("edge_tta.bundle.shipped.ASSETS", TINY.parent)
        assert Bundle.open(asked).digest == digest
    other = ("0" if digest[0] != "0" else "1") + digest[1:12]
    with pytest.raises(BundleError, match=rf"is edge-tiny@{digest[:12]}; asked for is the digest {other}$"):
        Bundle.open(f"edge-tiny@{other}")
    for asked in (
        f"edge-tiny@{digest[:11]}",
        f"edge-tiny@{digest.upper()}X",
        f"@{digest}",
        f"nothing@{digest}",
    ):
        with pytest.raises(BundleError, match="no bundle"):
            Bundle.open(asked)
    # A folder may have such a name itself.
    named = tmp_path / "here@0123456789ab"
    shutil.copytree(TINY, named)
    assert Bundle.open(named).digest == digest
