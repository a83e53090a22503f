"""The manifest's schema and canonical form (docs/formats/bundle.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from edge_tta import __version__
from edge_tta.bundle.canonical import UNSEALED, canonical_bytes, document_digest, one_line, parse_document
from edge_tta.config import ModelConfig, dict_digest, from_dict
from edge_tta.errors import BundleError, ConfigError

SCHEMA_VERSION = 1
MAX_FILES = 64
MAX_PATH_PARTS = 8
MAX_FILE_BYTES = 2**31 - 1
"""A protobuf message, and with it an ONNX file, ends below 2 GiB."""
MAX_TOTAL_BYTES = 2**32
MAX_TOKENIZER_BYTES = MAX_ATTRIBUTIONS_BYTES = 16 * 2**20
MAX_GOLDEN_BYTES = 64 * 2**20
MAX_MODEL_CARD_BYTES = 2**20
MANIFEST_NAME = "manifest.json"
STAGES = ("text_encoder", "generator", "decoder")
INPUTS = {
    "text_encoder": {"ids"},
    "generator": {"latent", "time", "duration", "tokens", "pooled", "seconds", "guidance"},
    "decoder": {"latent"},
}
"""What a stage may ask for; a graph made for one step only may leave out what it does not need."""
OUTPUTS = {"text_encoder": ["tokens", "pooled"], "generator": ["velocity"], "decoder": ["waveform"]}
SUFFIXES = {"ort": ".onnx", "executorch": ".pte", "coreml": ".mlmodel"}
"""File suffix of a backend's graphs: no graph can avoid its inspection under another name."""
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{n}" for n in range(1, 10)),
    *(f"lpt{n}" for n in range(1, 10)),
}

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_SHOWN = r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f]"
"""Text is shown on terminals: no escape sequences, nothing that turns the direction of writing."""
Text = Annotated[str, StringConstraints(max_length=2000, pattern=rf"^{_SHOWN}*[\p{{L}}\p{{N}}]{_SHOWN}*$")]
Word = Annotated[str, StringConstraints(max_length=200, pattern=r"^[ -~]*$")]
_VERSION = r"^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$"
Version = Annotated[str, StringConstraints(pattern=_VERSION)]
Dimension = (
    Annotated[int, Field(ge=1, le=2**31 - 1)]
    | Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
)
FilePath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", max_length=120
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class File(_Strict):
    """One file of the bundle."""

    file: FilePath
    sha256: Digest
    bytes: int = Field(ge=1, le=MAX_FILE_BYTES)

    @model_validator(mode="after")
    def _no_reserved_names(self) -> File:
        parts = self.file.split("/")
        if len(parts) > MAX_PATH_PARTS or self.file.lower() == MANIFEST_NAME:
            raise ValueError(f"'{self.file}' is too deep or is the manifest itself")
        for part in parts:
            if part.split(".")[0].lower() in _RESERVED or part.endswith("."):
                raise ValueError(f"'{self.file}' is not a portable file name")
        return self


class Port(_Strict):
    """Name, type and shape of a graph input or output; a dimension is a number or the name of a dynamic length."""

    name: Name
    dtype: Literal["float32", "int64"]
    shape: list[Dimension] = Field(max_length=4)


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
        for name, stage in self.stages.items():
            if not stage.file.endswith(SUFFIXES[self.backend]):
                raise ValueError(
                    f"'{stage.file}': a graph for {self.backend} ends in {SUFFIXES[self.backend]}"
                )
            inputs = [port.name for port in stage.inputs]
            if not set(inputs) <= INPUTS[name] or len(set(inputs)) != len(inputs) or not inputs:
                raise ValueError(
                    f"inputs of {name} are {', '.join(sorted(INPUTS[name]))}, not {', '.join(inputs)}"
                )
            outputs = [port.name for port in stage.outputs]
            if outputs != OUTPUTS[name]:
                raise ValueError(
                    f"outputs of {name} are {', '.join(OUTPUTS[name])}, not {', '.join(outputs)}"
                )
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

    @model_validator(mode="after")
    def _ordered(self) -> Generation:
        if not self.min_guidance <= self.default_guidance <= self.max_guidance:
            raise ValueError("default_guidance is not between min_guidance and max_guidance")
        return self


class Provenance(_Strict):
    """Where the bundle comes from. No dates: the same inputs make the same bytes."""

    commit: Word
    checkpoint: Word
    recipes: dict[Name, Digest] = Field(default={}, max_length=64)
    """Digest of every recipe that had a part in the files."""
    tools: dict[Name, Word] = Field(default={}, max_length=64)
    """Version of every tool that wrote them."""


class Manifest(_Strict):
    """Everything a runtime must know before it opens a file."""

    schema_version: Literal[1]
    digest: Digest = UNSEALED
    """SHA-256 of the canonical form with this field all zeros: damage to the manifest itself is noticed."""
    min_runtime: Version = "0.1.0"
    """Oldest edge_tta that can run the bundle."""
    name: Name
    version: Version
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
            config = self.model_config_of_bundle()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        # Of the configuration as it is written: a later release with more fields must still agree.
        if dict_digest(self.config) != self.config_digest:
            raise ValueError("config_digest does not belong to config")
        if self.tokenizer.max_tokens != config.text_encoder.max_tokens:
            raise ValueError("tokenizer.max_tokens is not that of config.text_encoder")
        for entry, limit in (
            (self.tokenizer, MAX_TOKENIZER_BYTES),
            (self.golden, MAX_GOLDEN_BYTES),
            (self.model_card, MAX_MODEL_CARD_BYTES),
            (self.attributions, MAX_ATTRIBUTIONS_BYTES),
        ):
            if entry.bytes > limit:
                raise ValueError(f"'{entry.file}': {entry.bytes} bytes, at most {limit} are allowed")
        self._check_paths()
        return self

    def _check_paths(self) -> None:
        """One meaning on every file system: no two spellings of a name, no file that is also a directory."""
        files: dict[str, File] = {}
        directories: dict[str, str] = {}
        for file in self.files():
            known = files.setdefault(file.file.lower(), file)
            if (known.file, known.sha256, known.bytes) != (file.file, file.sha256, file.bytes):
                raise ValueError(f"'{file.file}' is described twice, differently")
            parts = file.file.split("/")
            for count in range(1, len(parts)):
                directory = "/".join(parts[:count])
                if directories.setdefault(directory.lower(), directory) != directory:
                    raise ValueError(f"'{directory}' is spelled in two ways")
        if both := files.keys() & directories.keys():
            raise ValueError(f"'{min(both)}' is a file and a directory")
        if len(files) > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files")
        if sum(file.bytes for file in files.values()) > MAX_TOTAL_BYTES:
            raise ValueError(f"more than {MAX_TOTAL_BYTES} bytes in all")

    def model_config_of_bundle(self) -> ModelConfig:
        """The model configuration as a dataclass."""
        return from_dict(ModelConfig, self.config, "config")

    def files(self) -> list[File]:
        """Every file entry; a file shared by variants appears once per use."""
        stages = [stage for variant in self.variants.values() for stage in variant.stages.values()]
        return [self.tokenizer, self.golden, self.model_card, self.attributions, *stages]


def make_manifest(parts: Mapping[str, Any]) -> Manifest:
    """A manifest from its fields, for those who write bundles.

    Raises:
        BundleError: a field is missing (licence and training data too), unknown or wrong; the message names it.
    """
    try:
        return Manifest.model_validate(dict(parts))
    except ValidationError as error:
        raise BundleError(one_line(f"{MANIFEST_NAME}: {_first_reason(error)}")) from error


def canonical_json(manifest: Manifest) -> bytes:
    """The one byte form of a manifest: sorted keys, no spaces, ASCII, newline at the end."""
    return canonical_bytes(manifest.model_dump(mode="json"))


def seal(manifest: Manifest) -> Manifest:
    """The manifest with its digest filled in."""
    return manifest.model_copy(update={"digest": document_digest(manifest.model_dump(mode="json"))})


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def parse_manifest(data: bytes) -> Manifest:
    """Parse and check a manifest.

    The canonical form and the digest are checked on the document as it is written, before its meaning, so that a
    later release with more optional fields still reads it.

    Raises:
        BundleError: anything at all is wrong; the message says what.
    """
    try:
        document = parse_document(data)
        _check_release(document)
        if canonical_bytes(document) != data:
            raise ValueError("not in canonical form")
        if document.get("digest") != document_digest(document):
            raise ValueError("digest does not belong to the manifest; the file is damaged")
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(one_line(f"{MANIFEST_NAME}: {_first_reason(error)}")) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(one_line(f"{MANIFEST_NAME}: {error}")) from error


def _check_release(document: dict[str, Any]) -> None:
    """Refuse what is meant for a later release before looking at fields that this one cannot know."""
    version, runtime = document.get("schema_version"), document.get("min_runtime", "0.1.0")
    # Exactly an integer: 1.0 and true compare equal to 1.
    if type(version) is not int or version < 1:
        raise ValueError(f"schema_version {version!r} is no positive integer")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"schema version {version} is newer than this runtime knows ({SCHEMA_VERSION}); upgrade edge-tta"
        )
    if isinstance(runtime, str) and re.fullmatch(_VERSION, runtime) and _order(runtime) > _order(__version__):
        raise ValueError(
            f"the bundle needs edge-tta {runtime} or later, this is {__version__}; upgrade edge-tta"
        )


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
