"""Writing a bundle atomically: a sibling directory is filled, the manifest comes last, then it is renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_tta.bundle.canonical import MAX_MANIFEST_BYTES, parse_document
from edge_tta.bundle.files import read_regular_file
from edge_tta.bundle.manifest import MANIFEST_NAME, File, Manifest, canonical_json, parse_manifest, seal
from edge_tta.bundle.store import Bundle
from edge_tta.errors import BundleError, OutputError
from edge_tta.files import sync_directory


def describe(name: str, data: bytes) -> File:
    """Manifest entry of a file's bytes."""
    return File(file=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def write_bundle(target: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle; an older bundle at ``target`` is replaced only when the new one is complete and opens.

    Args:
        target: directory of the bundle.
        manifest: describes every file.
        files: bytes by path inside the bundle; exactly those of the manifest.

    Raises:
        BundleError: files and manifest disagree, the result would not open, or ``target`` is no bundle.
        OutputError: the disk is full or not writable; nothing partial stays.
    """
    manifest = seal(manifest)
    data = canonical_json(manifest)
    parse_manifest(data)
    wanted = {entry.file: entry for entry in manifest.files()}
    if set(wanted) != set(files):
        difference = ", ".join(sorted(set(wanted) ^ set(files)))
        raise BundleError(f"files and manifest disagree about {difference}")
    for name, entry in wanted.items():
        if describe(name, files[name]).sha256 != entry.sha256:
            raise BundleError(f"{name}: bytes are not those of the manifest")
    target = Path(os.path.realpath(target))
    try:
        sweep(target)
        _refuse_others(target)
        part, aside = _part_of(target), target.with_name(f".{target.name}.old-{os.getpid()}")
        missing = [parent for parent in target.parents if not parent.exists()]
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for name, content in files.items():
                rest = memoryview(content)
                for path, size in wanted[name].stored():
                    _write(part / path, rest[:size])
                    rest = rest[size:]
            _write(part / MANIFEST_NAME, data)
            for directory in {path.parent for path in part.rglob("*")}:
                sync_directory(directory)
            Bundle.open(part)
            _exchange(part, target, aside)
        finally:
            _tidy(part, target, aside, missing)
    except OSError as error:
        raise OutputError(f"cannot write bundle {target}: {error.strerror or error}") from error
    return Bundle.open(target, verify=False)


def check_target(target: Path) -> None:
    """Refuse a place that ``write_bundle`` would refuse, for those who have work to do first; leaves nothing behind.

    Raises:
        BundleError: something that is no bundle is there.
        OutputError: no directory can be made or replaced there.
    """
    target = Path(os.path.realpath(target))
    try:
        _refuse_others(target)
        if os.path.ismount(target):
            raise OutputError(f"cannot write bundle {target}: it is a mount point; name a folder inside it")
        above = next(parent for parent in target.parents if parent.exists())
        probe = _part_of(above / target.relative_to(above).parts[0])
        shutil.rmtree(probe, ignore_errors=True)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise OutputError(f"cannot write bundle {target}: {error.strerror or error}") from error


def _refuse_others(target: Path) -> None:
    if target.exists() and not _is_bundle(target) and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target} exists and is no bundle; choose another directory")


def _is_bundle(directory: Path) -> bool:
    """Whether there is a manifest of ours, if of another release: other programs call files of theirs so too."""
    try:
        document = parse_document(read_regular_file(directory, MANIFEST_NAME, MAX_MANIFEST_BYTES))
    except (BundleError, ValueError, RecursionError):
        return False
    return {"schema_version", "variants"} <= document.keys()


def _part_of(target: Path) -> Path:
    """Where a directory is filled before it takes its name."""
    return target.with_name(f".{target.name}.tmp-{os.getpid()}")


def sweep(target: Path) -> None:
    """Tidy up after writers of ``target`` that were killed: unfinished bundles go, a bundle moved aside comes back.

    Raises:
        OSError: the directory cannot be changed.
    """
    if not target.parent.is_dir():
        return
    pattern = re.compile(re.escape(f".{target.name}.") + r"(tmp|old)-(\d+)")
    for path in sorted(target.parent.iterdir()):
        found = pattern.fullmatch(path.name)
        if found is None or _is_running(int(found[2])):
            continue
        if found[1] == "old" and not target.exists():
            os.replace(path, target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Whether another process with this number exists; where that cannot be asked safely, it is assumed."""
    if process == os.getpid():
        return False
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _exchange(part: Path, target: Path, aside: Path) -> None:
    """Put ``part`` in the place of ``target``; killed in between, the old bundle is aside for ``sweep`` to find."""
    try:
        if target.exists():
            os.replace(target, aside)
        os.replace(part, target)
    except BaseException:
        # Interrupts too: whoever stops a writer is left with what was there before.
        if not target.exists():
            with contextlib.suppress(OSError):
                os.replace(aside, target)
        raise
    sync_directory(target.parent)


def _tidy(part: Path, target: Path, aside: Path, missing: Sequence[Path]) -> None:
    """Remove what is left of writing a bundle, done or not; of the folders made for it those that stay empty."""
    shutil.rmtree(part, ignore_errors=True)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        return
    for parent in missing:
        with contextlib.suppress(OSError):
            parent.rmdir()


def _write(path: Path, content: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
