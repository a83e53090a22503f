"""Debian packages unpacked beside the system: nothing is installed, no rights are needed.

Apt runs with a state, cache and list of sources of its own. The sources are those this machine is set up with, asked
for another architecture or for newer suites as well, so where packages come from stays the administrator's choice.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arm.errors import EmulationError
from benchmarks.arm.steps import call

NEWER_SUITES = ("stable", "unstable")
"""Names under which every Debian archive has newer packages than an older release."""
_KEYRINGS = tuple(
    Path("/usr/share/keyrings/debian-archive-keyring").with_suffix(suffix) for suffix in (".pgp", ".gpg")
)
_SYSTEM_STATUS = Path("/var/lib/dpkg/status")


def debian_release() -> str:
    """Code name of the Debian release this machine runs.

    Raises:
        EmulationError: another system, or apt is missing.
    """
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    name = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not name or shutil.which("apt-get") is None:
        raise EmulationError(
            "the Arm system is made of Debian's packages, which needs apt on Debian; "
            f"this is {release.get('PRETTY_NAME', platform.system())}"
        )
    return name


def system_architecture() -> str:
    """Debian's name of this machine's architecture."""
    return call(["dpkg", "--print-architecture"], "asking dpkg for the architecture").strip()


@dataclass(frozen=True)
class Source:
    """One suite of one archive."""

    archive: str
    suite: str


def configured_sources(release: str) -> list[Source]:
    """Suites of the release in the system's own configuration, the release itself first.

    Raises:
        EmulationError: the release's main archive is not configured.
    """
    listed = call(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ],
        "asking apt for its sources",
    )
    found = []
    for line in listed.splitlines():
        archive, suite, component = line.split()
        # Other archives name their suites after the release too ("bookworm-pgdg").
        if component == "main" and suite in (release, f"{release}-updates", f"{release}-security"):
            found.append(Source(archive, suite))
    found.sort(key=lambda source: source.suite)
    if not any(source.suite == release for source in found):
        raise EmulationError(f"apt has no archive with '{release} main' among its sources")
    return list(dict.fromkeys(found))


class Apt:
    """Package fetching for one architecture.

    Args:
        folder: where lists and packages are kept.
        architecture: Debian's name ("arm64").
        sources: suites to fetch from.
        preferred: suite that wins over newer versions in others.
        installed: take what is installed on this system for granted, instead of starting from nothing.

    Raises:
        EmulationError: the lists of packages cannot be fetched.
    """

    def __init__(
        self, folder: Path, architecture: str, sources: Sequence[Source], preferred: str, installed: bool
    ) -> None:
        self.folder = folder
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        status = _SYSTEM_STATUS if installed else folder / "state" / "status"
        if not installed:
            status.write_text("", encoding="utf-8")
        keyring = next((path for path in _KEYRINGS if path.is_file()), None)
        signed = f" signed-by={keyring}" if keyring else ""
        lines = [
            f"deb [arch={architecture}{signed}] {source.archive} {source.suite} main" for source in sources
        ]
        (folder / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = {
            "APT::Architecture": architecture,
            "APT::Default-Release": preferred,
            "APT::Install-Recommends": "false",
            # As root, apt drops its rights to a user who may not enter this folder.
            "APT::Sandbox::User": "",
            "Dir::State": folder / "state",
            "Dir::State::status": status,
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
        }
        text = "".join(f'{key} "{value}";\n' for key, value in settings.items())
        # The list, not another entry of it: a machine with foreign architectures would fetch their lists too.
        text += f'#clear APT::Architectures;\nAPT::Architectures {{ "{architecture}"; }};\n'
        (folder / "apt.conf").write_text(text, encoding="utf-8")
        self._call("update")

    def _call(self, *arguments: str, cwd: Path | None = None) -> str:
        command = ["apt-get", "-q", "-y", "-c", str(self.folder / "apt.conf"), *arguments]
        return call(command, f"apt-get {arguments[0]}", cwd=cwd)

    def fetch(self, packages: Sequence[str]) -> list[Path]:
        """Packages and whatever they depend on, as files.

        Raises:
            EmulationError: a package is unknown or cannot be fetched.
        """
        archives = self.folder / "cache" / "archives"
        for old in archives.glob("*.deb"):
            old.unlink()
        self._call("install", "--download-only", *packages)
        return sorted(archives.glob("*.deb"))

    def fetch_alone(self, package: str, suite: str, target: Path) -> Path:
        """One package of one suite, without what it depends on.

        Raises:
            EmulationError: as in ``fetch``.
        """
        self._call("download", f"{package}/{suite}", cwd=target)
        return next(target.glob(f"{package}_*.deb"))


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Unpack packages into a folder; their scripts are not run.

    Raises:
        EmulationError: a package is damaged.
    """
    for package in packages:
        call(["dpkg-deb", "--extract", package, root], f"unpacking {package.name}")
    # Newer releases leave these links to the installer.
    for name in ("bin", "lib", "sbin"):
        if not (root / name).exists() and (root / "usr" / name).is_dir():
            (root / name).symlink_to(f"usr/{name}")
