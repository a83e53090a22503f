"""Where sounds go: a file, a directory or standard output, decided and checked before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_tta.audio import FORMATS, read_comment, write_audio
from edge_tta.cli.console import say_bytes
from edge_tta.errors import DataError, OutputError
from edge_tta.runtime.request import GenerationRequest, GenerationResult

DEFAULT_FILE = "edge-tta.wav"


@dataclass(frozen=True)
class Targets:
    """One path per sound; "-" stands for standard output."""

    paths: tuple[Path, ...]
    is_stdout: bool = False
    with_comment: bool = True
    """Whether files say in their comment how to make them again."""
    has_own_names: bool = False
    """Whether the names were chosen here, in a directory."""

    @classmethod
    def resolve(
        cls, output: str | None, requests: list[GenerationRequest], with_comment: bool = True
    ) -> Targets:
        """Decide file names.

        Args:
            output: as given with ``-o``. None: ``edge-tta.wav``, or one file per sound in the working directory.
            requests: one per sound.
            with_comment: whether the files say in their comment how to make them again.

        Raises:
            OutputError: the output cannot take the sounds.
        """
        several = len(requests) > 1
        if output == "-":
            if several:
                raise OutputError(
                    f"standard output takes one sound, {len(requests)} were asked for; use -o DIRECTORY"
                )
            if sys.stdout is not None and sys.stdout.isatty():
                raise OutputError("standard output is a terminal; redirect it, or use -o FILE")
            return cls((Path("-"),), is_stdout=True, with_comment=with_comment)
        path = Path(output) if output is not None else Path("." if several else DEFAULT_FILE)
        is_directory = output is not None and (output.endswith(("/", os.sep)) or path.is_dir())
        if several and not is_directory:
            if path.suffix.lower() in FORMATS:
                raise OutputError(f"{path} takes one sound, {len(requests)} were asked for; use -o DIRECTORY")
            is_directory = True
        if not is_directory:
            _check_file(path)
            return cls((path,), with_comment=with_comment)
        _check_directory(path)
        return cls(
            tuple(path / name for name in _names(requests)), with_comment=with_comment, has_own_names=True
        )

    def write(self, target: Path, result: GenerationResult) -> Path:
        """Write one sound, whole or not at all.

        Returns:
            Path of the file: another one than ``target`` if the name was chosen here and the sound of another request
            has it.

        Raises:
            OutputError: disk full, not writable.
        """
        comment = ""
        if self.with_comment:
            # Not in ASCII, which takes six letters for one of most scripts.
            comment = json.dumps({"edge_tta": result.recipe()}, allow_nan=False, ensure_ascii=False)
        if self.is_stdout:
            say_bytes(result.audio.to_bytes(".wav", comment=comment))
            return target
        if self.has_own_names and target.exists() and _stored_request(target) != _asked(result.recipe()):
            target = target.with_stem(f"{target.stem}-{_digest(json.dumps(_asked(result.recipe())))}")
        try:
            target.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make directory {target.parent}: {error.strerror or error}") from error
        write_audio(result.audio, target, comment=comment)
        return target


def _asked(recipe: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe makes another sound, not only other last bits of the same."""
    return {name: value for name, value in recipe.items() if name not in ("threads", "versions")}


def _stored_request(path: Path) -> dict[str, Any] | None:
    """The same of a file's comment; None where it tells nothing."""
    try:
        return _asked(json.loads(read_comment(path))["edge_tta"])
    except (DataError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _names(requests: list[GenerationRequest]) -> list[str]:
    """File names that tell prompt and seed, with a number in front where prompts differ.

    Of a prompt without Latin letters and digits a digest is told."""
    many_prompts = len({request.prompt for request in requests}) > 1
    names: list[str] = []
    numbers: dict[str, int] = {}
    for request in requests:
        number = numbers.setdefault(request.prompt, len(numbers) + 1)
        words = "-".join(re.findall(r"[a-z0-9]+", request.prompt.lower()))[:40].strip("-")
        words = words or f"sound-{_digest(request.prompt)}"
        names.append(
            f"{number:03d}-{words}-{request.seed}.wav" if many_prompts else f"{words}-{request.seed}.wav"
        )
    return names


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"cannot write {path}: the name must end in {' or '.join(FORMATS)}")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the directory {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {path.parent}")


def _check_directory(path: Path) -> None:
    existing = path if path.exists() else path.parent
    if not existing.is_dir():
        raise OutputError(f"cannot write in {path}: {existing} is not a directory")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"cannot write in {path}: no permission")
