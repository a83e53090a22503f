"""Opening a bundle: every byte is hashed before anything native sees it, and the hashed bytes are the ones used."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle.manifest import (
    MAX_MANIFEST_BYTES,
    File,
    Manifest,
    Variant,
    canonical_json,
    parse_manifest,
)
from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.bundle.shipped import DEFAULT_BUNDLE, shipped_bundles
from edge_tta.config import ModelConfig
from edge_tta.errors import BundleError

MANIFEST_NAME = "manifest.json"


def read_regular_file(root: Path, name: str, limit: int) -> bytes:
    """Bytes of a file below ``root``, without following links at any level.

    Raises:
        BundleError: missing, not a regular file, a link, or larger than ``limit`` bytes.
    """
    handle = -1
    directory = -1
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        *parents, last = name.split("/")
        for parent in parents:
            below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = below
        # Non-blocking, so that a fifo in the place of a file cannot hang the caller.
        handle = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{name}: not a regular file")
        if status.st_size > limit:
            raise BundleError(f"{name}: {status.st_size} bytes, expected at most {limit}")
        with os.fdopen(handle, "rb") as stream:
            handle = -1
            data = stream.read(limit + 1)
    except OSError as error:
        reason = {
            errno.ENOENT: "file is missing",
            errno.ELOOP: "symbolic links are not allowed",
            errno.ENOTDIR: "a part of the path is no directory",
        }.get(error.errno or 0, error.strerror or str(error))
        raise BundleError(f"{name}: {reason}") from None
    finally:
        for open_handle in (handle, directory):
            if open_handle >= 0:
                os.close(open_handle)
    if len(data) > limit:
        raise BundleError(f"{name}: grew beyond {limit} bytes while it was read")
    return data


class Bundle:
    """An opened, verified bundle. Opening one runs no code from it and writes nothing.

    Attributes:
        root: directory of the bundle.
        manifest: its parsed manifest.
        digest: the manifest's digest; as the manifest holds every file's hash, it identifies the bundle as a whole.
    """

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root, self.manifest, self.digest = root, manifest, manifest.digest

    @classmethod
    def open(cls, source: str | os.PathLike[str] | None = None, *, verify: bool = True) -> Bundle:
        """Open a bundle.

        Args:
            source: directory, or name of a shipped bundle; None for the default one.
            verify: hash every file now. What ``read`` returns is verified in any case.

        Raises:
            BundleError: unknown name, or anything wrong with manifest or files.
        """
        root = _resolve(source)
        data = read_regular_file(root, MANIFEST_NAME, MAX_MANIFEST_BYTES)
        manifest = parse_manifest(data)
        if canonical_json(manifest) != data:
            raise BundleError("manifest.json: not in canonical form")
        bundle = cls(root, manifest)
        if verify:
            bundle.verify()
        return bundle

    @property
    def name(self) -> str:
        """Name and beginning of the digest, as recorded in results."""
        return f"{self.manifest.name}@{self.digest[:12]}"

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model."""
        return self.manifest.model_config_of_bundle()

    @property
    def variants(self) -> Mapping[str, Variant]:
        """Backends and precisions by name."""
        return self.manifest.variants

    def verify(self) -> None:
        """Read and check every file.

        Raises:
            BundleError: names the first file that is not what the manifest says.
        """
        done = set()
        for entry in self.manifest.files():
            if entry.file not in done:
                self.read(entry)
                done.add(entry.file)

    def read(self, entry: File) -> bytes:
        """Verified bytes of one file of the manifest.

        Raises:
            BundleError: size or hash differ, or an ONNX file is not acceptable.
        """
        data = read_regular_file(self.root, entry.file, entry.bytes)
        if len(data) != entry.bytes:
            raise BundleError(f"{entry.file}: {len(data)} bytes, the manifest says {entry.bytes}")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{entry.file}: content does not match its SHA-256; the file is damaged")
        if entry.file.endswith(".onnx"):
            inspect_onnx(entry.file, data)
        return data

    def tokenizer_bytes(self) -> bytes:
        """Verified SentencePiece model."""
        return self.read(self.manifest.tokenizer)

    def golden(self) -> dict[str, NDArray[np.generic]]:
        """Golden inputs and outputs by name.

        Raises:
            BundleError: not a plain NumPy archive.
        """
        data = self.read(self.manifest.golden)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise BundleError(f"{self.manifest.golden.file}: {error}") from error
        except Exception as error:  # zipfile and zlib raise their own kinds on damaged archives
            raise BundleError(f"{self.manifest.golden.file}: not a NumPy archive ({error})") from error


def _resolve(source: str | os.PathLike[str] | None) -> Path:
    known = shipped_bundles()
    name = DEFAULT_BUNDLE if source is None else os.fspath(source)
    if name in known:
        return known[name]
    try:
        path = Path(name)
        is_directory = path.is_dir()
    except (OSError, ValueError):
        is_directory = False
    if not is_directory:
        names = ", ".join(known) or "none"
        raise BundleError(
            f"no bundle '{str(name)[:200]}': neither a directory nor a shipped bundle (shipped: {names})"
        )
    return path
