"""What a manifest says of single files: paths, hashes, graphs with their inputs and outputs, variants."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from edge_tta.bundle.coreml_package import check_companions

MAX_PATH_PARTS = 8
MAX_FILE_BYTES = 2**31 - 1
"""A protobuf message, and with it an ONNX file, ends below 2 GiB."""
MAX_PARTS = 32
MIN_PART_BYTES = 2**12
"""Smallest part of a file that is stored in several: a bundle is not a heap of crumbs."""
MANIFEST_NAME = "manifest.json"
Precision = Literal["fp32", "fp16", "int8", "int4"]
"""What a variant computes in, or stores its weights in."""
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


class Strict(BaseModel):
    """Base of the schema: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class File(Strict):
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

    def stored(self) -> list[tuple[str, int]]:
        """Paths and sizes of the files on disk that make up this one, in their order."""
        return [(self.file, self.bytes)]


class Port(Strict):
    """Name, type and shape of a graph input or output; a dimension is a number or the name of a dynamic length."""

    name: Name
    dtype: Literal["float32", "int64"]
    shape: list[Dimension] = Field(max_length=4)


class StageFile(File):
    """A graph."""

    inputs: list[Port] = Field(max_length=16)
    outputs: list[Port] = Field(max_length=4)
    part_bytes: int | None = Field(default=None, ge=MIN_PART_BYTES)
    """Stored as ``FILE.part-01``, ``FILE.part-02`` and so on, each of so many bytes but the last; None: as one file."""

    @model_validator(mode="after")
    def _more_than_one_part(self) -> StageFile:
        if self.part_bytes is not None and not self.part_bytes < self.bytes <= MAX_PARTS * self.part_bytes:
            raise ValueError(f"'{self.file}': part_bytes asks for 2 to {MAX_PARTS} parts")
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Bundles that need nothing new stay readable by releases that do not know the field.
        document: dict[str, Any] = write(self)
        if self.part_bytes is None:
            del document["part_bytes"]
        return document

    def stored(self) -> list[tuple[str, int]]:
        """Paths and sizes of the parts, or of the one file."""
        if self.part_bytes is None:
            return super().stored()
        starts = range(0, self.bytes, self.part_bytes)
        return [
            (f"{self.file}.part-{number:02d}", min(self.part_bytes, self.bytes - start))
            for number, start in enumerate(starts, start=1)
        ]


class Calibration(Strict):
    """What the fixed ranges of a variant's inputs were found on."""

    sha256: Digest
    """Of the list of requests that the float model answered, as a file."""
    requests: int = Field(ge=1, le=2**31 - 1)
    """How many they were."""


Nodes = dict[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.:]{0,99}$")],
    Annotated[int, Field(ge=1, le=2**31 - 1)],
]
"""Number of nodes by operator."""


class Delegation(Strict):
    """Where the nodes of a stage of an ExecuTorch program run; tuple accesses and symbolic lengths are not counted."""

    subgraphs: int = Field(ge=0, le=2**31 - 1)
    """Pieces that the delegate runs as a whole."""
    delegated: Nodes = Field(max_length=256)
    """Nodes inside them."""
    portable: Nodes = Field(max_length=256)
    """Nodes outside, left to ExecuTorch's own kernels."""


class Variant(Strict):
    """The model for one backend in one precision."""

    backend: Literal["ort", "executorch", "coreml"]
    precision: Precision
    stages: dict[Literal["text_encoder", "generator", "decoder"], StageFile]
    parity_snr_db: dict[Literal["text_encoder", "generator", "decoder"], float] = {}
    """Signal-to-noise ratio of each stage against the float model on the golden inputs, dB."""
    companions: list[File] = Field(default=[], max_length=8)
    """Files that the graphs do not work without: what a Core ML package holds besides the program."""
    delegate: Literal["xnnpack", "coreml"] = "xnnpack"
    """What an ExecuTorch program hands its work to; means nothing for other backends."""
    delegation: dict[Literal["text_encoder", "generator", "decoder"], Delegation] = {}
    """Of the stages of an ExecuTorch program; empty for other backends, and in bundles from before it was recorded."""
    calibration: Calibration | None = None
    """None where no input has a fixed range, and in bundles from before it was recorded."""

    def files(self) -> list[File]:
        """Every file entry of the variant; one that several stages share appears once per use."""
        return [*self.stages.values(), *self.companions]

    def size(self) -> int:
        """Bytes of all files, each counted once."""
        return sum({entry.file: entry.bytes for entry in self.files()}.values())

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Bundles that need nothing new stay readable by releases that do not know the fields.
        document: dict[str, Any] = write(self)
        for name in ("companions", "delegate", "delegation", "calibration"):
            if getattr(self, name) == type(self).model_fields[name].default:
                del document[name]
        return document

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
        if self.backend == "coreml" and any(stage.part_bytes is not None for stage in self.stages.values()):
            raise ValueError("a Core ML package cannot be stored in parts: Core ML opens it by its path")
        graphs = [stage.file for stage in self.stages.values()] if self.backend == "coreml" else []
        check_companions(graphs, [file.file for file in self.companions])
        if self.delegate != "xnnpack" and self.backend != "executorch":
            raise ValueError(f"a graph for {self.backend} has no delegate")
        if self.delegation and self.backend != "executorch":
            raise ValueError(f"a graph for {self.backend} delegates nothing")
        return self
