"""Opening a bundle: every byte is hashed before anything native sees it, and the hashed bytes are the ones used."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle.canonical import MAX_MANIFEST_BYTES
from edge_tta.bundle.coreml_package import inspect_package_file, package_of
from edge_tta.bundle.files import check_directory, read_regular_file
from edge_tta.bundle.golden import read_arrays
from edge_tta.bundle.manifest import (
    MANIFEST_NAME,
    MAX_FILE_BYTES,
    SUFFIXES,
    File,
    Manifest,
    Variant,
    parse_manifest,
)
from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.bundle.pte_inspect import inspect_pte
from edge_tta.bundle.shipped import DEFAULT_BUNDLE, shipped_bundles
from edge_tta.config import ModelConfig
from edge_tta.errors import BundleError

_WITH_DIGEST = re.compile(r"(.+)@([0-9a-f]{12,64})", re.DOTALL)


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
            source: name of a shipped bundle, or directory; None for the default one. A directory with the name of
                a shipped bundle is meant by "./NAME", or by a path object, which is never a name. Either may end in
                "@" and the beginning of a digest, 12 digits or more, as in results: then only the bundle with that
                digest is opened.
            verify: hash every file now. What ``read`` returns is verified in any case.

        Raises:
            BundleError: unknown name, another digest, or anything wrong with manifest or files.
        """
        root, digest = _resolve(source)
        if not os.path.lexists(root / MANIFEST_NAME):
            raise BundleError(f"{root} is no bundle: there is no {MANIFEST_NAME} in it")
        bundle = cls(root, parse_manifest(read_regular_file(root, MANIFEST_NAME, MAX_MANIFEST_BYTES)))
        if not bundle.digest.startswith(digest):
            raise BundleError(f"{root} is {bundle.name}; asked for is the digest {digest}")
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
        for variant in self.variants.values():
            self.check_packages(variant)

    def check_packages(self, variant: Variant) -> None:
        """Refuse a Core ML package that holds anything the manifest does not name: Core ML opens it as a whole.

        Raises:
            BundleError: names what does not belong.
        """
        if variant.backend == "coreml":
            named = {entry.file for entry in variant.files()}
            for package in sorted({package_of(stage.file) for stage in variant.stages.values()}):
                check_directory(self.root, package, named)

    def read(self, entry: File) -> bytes:
        """Verified bytes of one file of the manifest.

        Raises:
            BundleError: size or hash differ, or the graph is not acceptable.
        """
        data = b"".join(
            read_regular_file(self.root, path, MAX_FILE_BYTES, size) for path, size in entry.stored()
        )
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{entry.file}: content does not match its SHA-256; the file is damaged")
        # The manifest lets graphs have no other suffix, and files of packages no other place.
        if entry.file.endswith(SUFFIXES["ort"]):
            inspect_onnx(entry.file, data)
        if entry.file.endswith(SUFFIXES["executorch"]):
            inspect_pte(entry.file, data)
        inspect_package_file(entry.file, data)
        return data

    def tokenizer_bytes(self) -> bytes:
        """Verified SentencePiece model."""
        return self.read(self.manifest.tokenizer)

    def golden(self) -> dict[str, NDArray[np.generic]]:
        """Golden inputs and outputs by name.

        Raises:
            BundleError: damaged, too large when unpacked, or not plain finite numbers.
        """
        return read_arrays(self.manifest.golden.file, self.read(self.manifest.golden))


def _resolve(source: str | os.PathLike[str] | None) -> tuple[Path, str]:
    """Directory of a bundle, and what its digest has to begin with."""
    if source is not None and not isinstance(source, (str, os.PathLike)):
        raise BundleError(f"a bundle is a name or a directory, got {type(source).__name__}")
    name = DEFAULT_BUNDLE if source is None else os.fsdecode(source)
    # A path object is a directory: Path("./NAME") has lost its dot.
    known = shipped_bundles() if source is None or isinstance(source, str) else {}
    is_file = False
    with_digest = _WITH_DIGEST.fullmatch(name)
    for wanted, digest in [(name, ""), *([with_digest.groups()] if with_digest else [])]:
        if wanted in known:
            return known[wanted], digest
        # A name may be too long for a file, or hold what no file's name can.
        with contextlib.suppress(OSError, ValueError):
            if Path(wanted).is_dir():
                return Path(wanted), digest
            is_file = is_file or Path(wanted).exists()
    shown = repr(name if len(name) <= 200 else name[:199] + "…")
    if is_file:
        raise BundleError(f"{shown} is a file; a bundle is the directory around {MANIFEST_NAME}")
    names = ", ".join(shipped_bundles()) or "none"
    raise BundleError(f"no bundle {shown}: neither a directory nor a shipped bundle (shipped: {names})")
