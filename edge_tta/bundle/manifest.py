"""The manifest's schema and canonical form (docs/formats/bundle.md)."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from edge_tta.config import ModelConfig, from_dict
from edge_tta.errors import BundleError, ConfigError

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 256 * 1024
MAX_DEPTH = 12
MAX_FILES = 64
MAX_FILE_BYTES = 2 * 2**30
STAGES = ("text_encoder", "generator", "decoder")
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{n}" for n in range(1, 10)),
    *(f"lpt{n}" for n in range(1, 10)),
}

UNSEALED = "0" * 64
"""Digest of a manifest that has not been sealed."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
FilePath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", max_length=120
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(_Strict):
    """One file of the bundle."""

    file: FilePath
    sha256: Digest
    bytes: int = Field(ge=1, le=MAX_FILE_BYTES)

    @model_validator(mode="after")
    def _no_reserved_names(self) -> File:
        for part in self.file.split("/"):
            if part.split(".")[0].lower() in _RESERVED or part.endswith("."):
                raise ValueError(f"'{self.file}' is not a portable file name")
        return self


class Port(_Strict):
    """Name, type and shape of a graph input or output; a dimension is a number or the name of a dynamic length."""

    name: Name
    dtype: Literal["float32", "int64"]
    shape: list[int | str] = Field(max_length=4)


class StageFile(File):
    """A graph."""

    inputs: list[Port] = Field(max_length=16)
    outputs: list[Port] = Field(max_length=4)


class Variant(_Strict):
    """The model for one backend in one precision."""

    backend: Literal["ort", "executorch", "coreml"]
    precision: Literal["fp32", "fp16", "int8", "int4"]
    stages: dict[Literal["text_encoder", "generator", "decoder"], StageFile]
    parity_snr_db: dict[Literal["text_encoder", "generator", "decoder"], float] = {}
    """Signal-to-noise ratio of each stage against the float model on the golden inputs, dB."""

    @model_validator(mode="after")
    def _complete(self) -> Variant:
        if set(self.stages) != set(STAGES):
            raise ValueError(f"needs exactly the stages {', '.join(STAGES)}")
        return self


class TokenizerFile(File):
    """SentencePiece model."""

    max_tokens: int = Field(ge=2, le=512)


class Generation(_Strict):
    """Defaults and limits of requests."""

    default_guidance: float = Field(ge=0, le=100)
    min_guidance: float = Field(ge=0, le=100)
    max_guidance: float = Field(ge=0, le=100)
    max_steps: int = Field(ge=1, le=64)


class Provenance(_Strict):
    """Where the bundle comes from. No dates: the same inputs make the same bytes."""

    commit: str = Field(max_length=64)
    checkpoint: str = Field(max_length=200)
    recipes: dict[str, str] = {}
    tools: dict[str, str] = {}


class Manifest(_Strict):
    """Everything a runtime must know before it opens a file."""

    schema_version: Literal[1]
    digest: Digest = UNSEALED
    """SHA-256 of the canonical form with this field all zeros: damage to the manifest itself is noticed."""
    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    description: Text
    licence: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+() -]{2,80}$")]
    """SPDX expression of the weights."""
    training_data: Text
    config: dict[str, Any]
    config_digest: Digest
    tokenizer: TokenizerFile
    variants: dict[Name, Variant] = Field(min_length=1, max_length=16)
    generation: Generation
    golden: File
    model_card: File
    attributions: File
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        try:
            digest = self.model_config_of_bundle().digest()
        except ConfigError as error:
            raise ValueError(f"config: {error}") from error
        if digest != self.config_digest:
            raise ValueError("config_digest does not belong to config")
        files = self.files()
        if len(files) > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files")
        seen: dict[str, File] = {}
        for file in files:
            known = seen.setdefault(file.file.lower(), file)
            if (known.file, known.sha256, known.bytes) != (file.file, file.sha256, file.bytes):
                raise ValueError(f"'{file.file}' is described twice, differently")
        return self

    def model_config_of_bundle(self) -> ModelConfig:
        """The model configuration as a dataclass."""
        return from_dict(ModelConfig, self.config, "config")

    def files(self) -> list[File]:
        """Every file entry; a file shared by variants appears once per use."""
        stages = [stage for variant in self.variants.values() for stage in variant.stages.values()]
        return [self.tokenizer, self.golden, self.model_card, self.attributions, *stages]


def canonical_json(manifest: Manifest) -> bytes:
    """The one byte form of a manifest: sorted keys, no spaces, ASCII, newline at the end."""
    document = manifest.model_dump(mode="json")
    return (json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode(
        "ascii"
    )


def seal(manifest: Manifest) -> Manifest:
    """The manifest with its digest filled in."""
    return manifest.model_copy(update={"digest": _digest(manifest)})


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(canonical_json(manifest.model_copy(update={"digest": UNSEALED}))).hexdigest()


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")
    return document


def _depth(text: str) -> int:
    deepest = depth = 0
    inside = escaped = False
    for character in text:
        if inside:
            escaped, inside = character == "\\" and not escaped, character != '"' or escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def parse_manifest(data: bytes) -> Manifest:
    """Parse and check a manifest.

    Raises:
        BundleError: anything at all is wrong; the message says what.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"manifest.json: {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    try:
        text = data.decode("utf-8")
        if _depth(text) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        document = json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_reject_duplicates)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        version = document.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"manifest.json: schema version {version} is newer than this runtime knows "
                f"({SCHEMA_VERSION}); upgrade edge-tta"
            )
        manifest = Manifest.model_validate_json(text)
        if manifest.digest != _digest(manifest):
            raise ValueError("digest does not belong to the manifest; the file is damaged")
        return manifest
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise BundleError(f"manifest.json: {place}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"manifest.json: {error}") from error
