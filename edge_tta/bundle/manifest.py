"""The manifest's schema and canonical form (docs/formats/bundle.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from edge_tta import __version__
from edge_tta.bundle.canonical import UNSEALED, canonical_bytes, document_digest, one_line, parse_document
from edge_tta.bundle.entries import (
    MANIFEST_NAME,
    MAX_FILE_BYTES,
    STAGES,
    SUFFIXES,
    Calibration,
    Delegation,
    Digest,
    File,
    Name,
    Port,
    StageFile,
    Strict,
    Variant,
)
from edge_tta.config import ModelConfig, dict_digest, from_dict
from edge_tta.errors import BundleError, ConfigError

__all__ = [
    "MANIFEST_NAME", "MAX_FILE_BYTES", "STAGES", "SUFFIXES", "Calibration", "Delegation", "File", "Generation",
    "Manifest", "Port", "Provenance", "StageFile", "TokenizerFile", "Variant", "canonical_json", "first_reason",
    "make_manifest", "parse_manifest", "seal",
]  # fmt: skip

SCHEMA_VERSION = 1
MAX_FILES = 64
MAX_TOTAL_BYTES = 2**32
MAX_TOKENIZER_BYTES = MAX_ATTRIBUTIONS_BYTES = 16 * 2**20
MAX_GOLDEN_BYTES = 64 * 2**20
MAX_MODEL_CARD_BYTES = 2**20
_SHOWN = r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f]"
"""Text is shown on terminals: no escape sequences, nothing that turns the direction of writing."""
Text = Annotated[str, StringConstraints(max_length=2000, pattern=rf"^{_SHOWN}*[\p{{L}}\p{{N}}]{_SHOWN}*$")]
Word = Annotated[str, StringConstraints(max_length=200, pattern=r"^[ -~]*$")]
_VERSION = r"^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$"
Version = Annotated[str, StringConstraints(pattern=_VERSION)]


class TokenizerFile(File):
    """SentencePiece model."""

    max_tokens: int = Field(ge=2, le=512)


class Generation(Strict):
    """Defaults and limits of requests."""

    default_guidance: float = Field(ge=0, le=100)
    min_guidance: float = Field(ge=0, le=100)
    max_guidance: float = Field(ge=0, le=100)
    max_steps: int = Field(ge=1, le=64)
    sampler: Literal["euler", "ping-pong"] = "euler"
    """How more than one step are walked: what the model was trained for."""

    @model_serializer(mode="wrap")
    def _without_default(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Bundles that need nothing new stay readable by releases that do not know the field.
        document: dict[str, Any] = write(self)
        if self.sampler == "euler":
            del document["sampler"]
        return document

    @model_validator(mode="after")
    def _ordered(self) -> Generation:
        if not self.min_guidance <= self.default_guidance <= self.max_guidance:
            raise ValueError("default_guidance is not between min_guidance and max_guidance")
        return self


class Provenance(Strict):
    """Where the bundle comes from. No dates: the same inputs make the same bytes."""

    commit: Word
    checkpoint: Word
    recipes: dict[Name, Digest] = Field(default={}, max_length=64)
    """Digest of every recipe that had a part in the files."""
    tools: dict[Name, Word] = Field(default={}, max_length=64)
    """Version of every tool that wrote them."""


class Manifest(Strict):
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
        for name, variant in self.variants.items():
            inputs = {port.name for port in variant.stages["generator"].inputs}
            if self.generation.max_steps > 1 and not {"time", "duration"} <= inputs:
                raise ValueError(f"max_steps is {self.generation.max_steps}, but {name} is made for one step")
        self._check_paths()
        return self

    def _check_paths(self) -> None:
        """One meaning on every file system: no two spellings of a name, no file that is also a directory."""
        known: dict[str, File] = {}
        owners: dict[str, str] = {}
        directories: dict[str, str] = {}
        for file in self.files():
            other = known.setdefault(file.file.lower(), file)
            if (other.file, other.sha256, other.stored()) != (file.file, file.sha256, file.stored()):
                raise ValueError(f"'{file.file}' is described twice, differently")
            for path, _ in file.stored():
                if owners.setdefault(path.lower(), file.file) != file.file:
                    raise ValueError(f"'{path}' is described twice, differently")
            parts = file.file.split("/")
            for count in range(1, len(parts)):
                directory = "/".join(parts[:count])
                if directories.setdefault(directory.lower(), directory) != directory:
                    raise ValueError(f"'{directory}' is spelled in two ways")
        if both := owners.keys() & directories.keys():
            raise ValueError(f"'{min(both)}' is a file and a directory")
        if len(owners) > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files")
        if sum(file.bytes for file in known.values()) > MAX_TOTAL_BYTES:
            raise ValueError(f"more than {MAX_TOTAL_BYTES} bytes in all")

    def model_config_of_bundle(self) -> ModelConfig:
        """The model configuration as a dataclass."""
        return from_dict(ModelConfig, self.config, "config")

    def files(self) -> list[File]:
        """Every file entry; a file shared by variants appears once per use."""
        graphs = [file for variant in self.variants.values() for file in variant.files()]
        return [self.tokenizer, self.golden, self.model_card, self.attributions, *graphs]


def make_manifest(parts: Mapping[str, Any]) -> Manifest:
    """A manifest from its fields, for those who write bundles.

    Raises:
        BundleError: a field is missing (licence and training data too), unknown or wrong; the message names it.
    """
    try:
        return Manifest.model_validate(dict(parts))
    except ValidationError as error:
        raise BundleError(one_line(f"{MANIFEST_NAME}: {first_reason(error)}")) from error


def canonical_json(manifest: Manifest) -> bytes:
    """The one byte form of a manifest: sorted keys, no spaces, ASCII, newline at the end."""
    return canonical_bytes(manifest.model_dump(mode="json"))


def seal(manifest: Manifest) -> Manifest:
    """The manifest with its digest filled in."""
    return manifest.model_copy(update={"digest": document_digest(manifest.model_dump(mode="json"))})


def first_reason(error: ValidationError) -> str:
    """Place and reason of the first thing that is wrong."""
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
        raise BundleError(one_line(f"{MANIFEST_NAME}: {first_reason(error)}")) from error
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
