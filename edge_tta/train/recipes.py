"""Training recipes: TOML files, read strictly, with ``key=value`` overrides."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from edge_tta.config import dict_digest, from_dict, to_dict
from edge_tta.errors import ConfigError, OutputError
from edge_tta.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE, Range, require_ranges, require_rising
from edge_tta.train.data.captions import OWN_CAPTION_SHARE
from edge_tta.train.data.windows import WindowPolicy
from edge_tta.train.loop_config import LoopConfig
from edge_tta.train.stages.codec import CodecStageConfig
from edge_tta.train.stages.envelope import EnvelopeStageConfig
from edge_tta.train.stages.generator import GeneratorStageConfig
from edge_tta.train.stages.tagger import TaggerStageConfig
from edge_tta.train.stages.text_encoder import TextEncoderStageConfig
from edge_tta.train.stages.wording import WordingStageConfig
from edge_tta.train.wordings import TextVariety

STAGE_TABLES = ("codec", "envelope", "text_encoder", "text_wordings", "generator", "tagger")

LATER_SETTINGS: dict[tuple[str, str], Any] = {
    ("codec", "coder_edges_hz"): [],
    ("data", "captions"): "captions",
    ("data", "latents"): "",
    ("data", "own_caption_share"): OWN_CAPTION_SHARE,
    ("envelope", "coder_edges_hz"): [],
    ("generator", "codec"): "",
    ("generator", "couples"): "",
    ("generator", "public_text"): None,
    ("generator", "quantization"): None,
    ("generator", "sample_seconds"): 4.0,
    ("generator", "text"): to_dict(TextVariety()),
    ("text_wordings", "plain_share"): 0.0,
    ("text_wordings", "teacher"): "",
}
"""Settings younger than runs that should still be resumed, with the default at which they change nothing."""


WINDOW_RANGES: dict[str, Range | tuple[float, float]] = {
    "windows.sample_rate": (4000, 192000),
    "windows.min_seconds": POSITIVE,
    "windows.max_seconds": (0.01, 60),
    "windows.short_share": SHARE,
    "windows.short_seconds": POSITIVE,
    "windows.mixture_share": SHARE,
    "windows.sequence_share": SHARE,
    "windows.start_at_once_share": SHARE,
    "windows.min_peak_db": (-120, 0),
    "windows.max_peak_db": (-120, 0),
}


@dataclass(frozen=True)
class DataConfig:
    """Which clips to train on."""

    folder: str = ""
    """Folder of the clips."""
    layout: str = "metadata"
    """How they lie there: "metadata" (a metadata.csv), "esc50", "audiocaps", "clotho" or "wavcaps"."""
    cache: str = "cache"
    """Where decoded clips and latents are kept."""
    latents: str = ""
    """Folder of encoded windows made by an earlier run (a ``latents-`` folder of its cache), in place of clips; all of
    it is used."""
    permissive_only: bool = True
    """Leave out clips whose licence does not allow redistribution of what is learnt from them."""
    min_bandwidth_hz: float = 0.0
    """Leave out clips known to reach less."""
    captions: str = "captions"
    """Caption grammar: "captions" for sounds, "digits" for spoken digits, or a TOML file like those."""
    own_caption_share: float = OWN_CAPTION_SHARE
    """Probability that a window of one clip is told by a caption of the clip's own, where it has any, and not by the
    grammar."""
    windows: WindowPolicy = field(default_factory=WindowPolicy)
    """How training windows of the generator are drawn."""
    num_windows: int = 6000
    """Windows to assemble and encode once for the generator."""
    num_validation_windows: int = 160
    seed: int = 1000

    def __post_init__(self) -> None:
        require_ranges(self, min_bandwidth_hz=NOT_NEGATIVE, num_windows=COUNT, seed=SEED)
        require_ranges(self, own_caption_share=SHARE)
        require_ranges(self, num_validation_windows=NOT_NEGATIVE, **WINDOW_RANGES)
        require_rising(self, "windows.min_peak_db", "windows.max_peak_db")


@dataclass(frozen=True)
class Recipe:
    """One training run: a stage, its data and the loop. Exactly one stage table is given."""

    name: str
    preset: str
    """Model preset whose part is trained."""
    checkpoint: str
    """Model checkpoint directory that receives the result, and that earlier stages' parts are read from."""
    description: str = ""
    loop: LoopConfig = field(default_factory=LoopConfig)
    data: DataConfig = field(default_factory=DataConfig)
    codec: CodecStageConfig | None = None
    envelope: EnvelopeStageConfig | None = None
    text_encoder: TextEncoderStageConfig | None = None
    text_wordings: WordingStageConfig | None = None
    generator: GeneratorStageConfig | None = None
    tagger: TaggerStageConfig | None = None

    def __post_init__(self) -> None:
        given = [name for name in STAGE_TABLES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of the tables {', '.join(STAGE_TABLES)}; got {given or 'none'}"
            )

    @property
    def stage(self) -> str:
        """Name of the stage's table."""
        return next(name for name in STAGE_TABLES if getattr(self, name) is not None)

    @property
    def part(self) -> str | None:
        """Part of the model that is trained; None for the tagger, which is no part of it."""
        parts = {"envelope": "codec", "text_wordings": "text_encoder", "tagger": None}
        return parts.get(self.stage, self.stage)

    def settings(self) -> dict[str, Any]:
        """Plain settings as checkpoints keep them: of younger ones those that change something."""
        plain = to_dict(self)
        for (table, name), default in LATER_SETTINGS.items():
            if plain[table] is not None and plain[table][name] == default:
                del plain[table][name]
        for younger in ("envelope", "text_wordings"):
            if plain[younger] is None:
                del plain[younger]
        return plain

    def digest(self) -> str:
        """Identifies the recipe."""
        return dict_digest(self.settings())


def _folder() -> Any:
    return resources.files("edge_tta.train").joinpath("recipes")


def list_recipes() -> dict[str, str]:
    """Packaged recipes: description by name."""
    names = sorted(
        entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")
    )
    return {name: load_recipe(name).description for name in names}


def copy_recipe(name: str, destination: Path) -> Path:
    """Copy a packaged recipe, comments and all, to a file or into a directory.

    Raises:
        ConfigError: unknown recipe.
        OutputError: the target exists or cannot be written.
    """
    text = _packaged(name)
    target = destination / f"{name}.toml" if destination.is_dir() else destination
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise OutputError(f"{target} exists already; choose another name") from None
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by packaged name or from a file, and apply overrides such as ``loop.steps=10``.

    Raises:
        ConfigError: unknown recipe or key, wrong type or malformed override.
    """
    path = Path(source)
    is_file = path.suffix == ".toml" and path.is_file()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8") if is_file else _packaged(str(source)))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: {error}") from error
    for override in overrides or []:
        _apply(document, override)
    return from_dict(Recipe, document)


def _packaged(name: str) -> str:
    entry = _folder().joinpath(f"{name}.toml")
    if "/" in name or "\\" in name or not entry.is_file():
        known = ", ".join(
            sorted(
                entry.name.removesuffix(".toml")
                for entry in _folder().iterdir()
                if entry.name.endswith(".toml")
            )
        )
        raise ConfigError(f"unknown recipe '{name}': neither a .toml file nor one of {known}")
    text: str = entry.read_text(encoding="utf-8")
    return text


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one dotted key; the value is TOML, or a plain string if it is not valid TOML."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override '{override}' is not of the form key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = document
    *parents, last = key.strip().split(".")
    for parent in parents:
        below = table.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(f"override '{override}': {parent} is a value, not a table")
        table = below
    table[last] = value
