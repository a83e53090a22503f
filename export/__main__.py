"""Export a checkpoint to a bundle.

    python -m export checkpoints/edge-10m -o edge_tta/assets/edge-10m

The checkpoint directory holds, besides weights, what the bundle says about itself: ``bundle.toml``,
``MODEL_CARD.md`` and ``ATTRIBUTIONS.csv``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from edge_tta.bundle.manifest import Generation
from edge_tta.config import from_dict
from edge_tta.errors import ConfigError, EdgeTTAError
from edge_tta.model.checkpoint import load_model_checkpoint
from export.assemble import BundleText, export_bundle
from quantization.recipe import load_recipe


@dataclass(frozen=True)
class BundleFacts:
    """Contents of ``bundle.toml``."""

    version: str
    description: str
    licence: str
    training_data: str
    default_guidance: float
    min_guidance: float
    max_guidance: float
    max_steps: int


def read_text(directory: Path) -> BundleText:
    """What a checkpoint directory says about the bundle to be made.

    Raises:
        ConfigError: one of the three files is missing or malformed.
    """
    try:
        document = tomllib.loads((directory / "bundle.toml").read_text(encoding="utf-8"))
        card = (directory / "MODEL_CARD.md").read_text(encoding="utf-8")
        attributions = (directory / "ATTRIBUTIONS.csv").read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename}: a bundle needs it ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{directory / 'bundle.toml'}: {error}") from error
    facts = from_dict(BundleFacts, document, "bundle.toml")
    generation = Generation(
        default_guidance=facts.default_guidance,
        min_guidance=facts.min_guidance,
        max_guidance=facts.max_guidance,
        max_steps=facts.max_steps,
    )
    return BundleText(
        version=facts.version,
        description=facts.description,
        licence=facts.licence,
        training_data=facts.training_data,
        model_card=card,
        attributions=attributions,
        commit=_commit(directory),
        checkpoint=directory.name,
        generation=generation,
    )


def _commit(directory: Path) -> str:
    """Last commit that changed the checkpoint; nothing outside a repository, or with changes no commit holds."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(directory), *words, "--", "."]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        return "" if git("status", "--porcelain") else git("log", "-1", "--format=%H")
    except (OSError, subprocess.SubprocessError):
        return ""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="bundle directory")
    parser.add_argument("--precision", action="append", choices=["int8", "fp32"], help="default: both")
    parser.add_argument("--recipe", default="onnx-int8", help="packaged quantization recipe")
    options = parser.parse_args(arguments)
    try:
        bundle = export_bundle(
            load_model_checkpoint(options.checkpoint),
            options.output,
            read_text(options.checkpoint),
            load_recipe(options.recipe),
            tuple(options.precision or ("int8", "fp32")),
            on_progress=lambda what: print(what, file=sys.stderr, flush=True),
        )
    except EdgeTTAError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    size = sum(entry.bytes for entry in {file.file: file for file in bundle.manifest.files()}.values())
    print(f"{bundle.name}: {size / 1e6:.1f} MB in {options.output}")
    for name, variant in bundle.variants.items():
        parity = ", ".join(f"{stage} {value:.1f} dB" for stage, value in variant.parity_snr_db.items())
        print(f"  {name}: {parity}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
