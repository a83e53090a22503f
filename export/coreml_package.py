"""Several Core ML models as the functions of one package whose bytes depend on them alone."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_tta.bundle.coreml_package import MODEL_FILE, PACKAGE_MANIFEST, WEIGHT_FILE
from quantization.coreml import LOGGERS, import_coremltools
from quantization.silence import silenced


def multifunction_package(models: Mapping[str, Any]) -> dict[str, bytes]:
    """One ``.mlpackage`` with a function for every model; weights they share are stored once.

    Args:
        models: ``coremltools.models.MLModel`` by function name.

    Returns:
        Bytes by path inside the package. What differs from run to run (random identifiers, dates, the order of
        dictionaries) is replaced, so equal models give equal bytes.

    Raises:
        MissingExtraError: coremltools is absent.
    """
    coremltools = import_coremltools()
    with tempfile.TemporaryDirectory() as name, silenced(*LOGGERS):
        directory = Path(name)
        descriptor = coremltools.utils.MultiFunctionDescriptor()
        for function, model in models.items():
            path = directory / f"{function}.mlpackage"
            model.save(str(path))
            descriptor.add_function(str(path), "main", function)
        descriptor.default_function_name = next(iter(models))
        package = directory / "package.mlpackage"
        coremltools.utils.save_multifunction(descriptor, str(package))
        model = normalised_model((package / MODEL_FILE).read_bytes())
        weights = (package / WEIGHT_FILE).read_bytes()
    return {PACKAGE_MANIFEST: package_manifest(), MODEL_FILE: model, WEIGHT_FILE: weights}


def normalised_model(data: bytes) -> bytes:
    """A ``model.mlmodel`` without the names of the converting machine's packages and the day, in one order.

    Raises:
        MissingExtraError: coremltools is absent.
    """
    specification = import_coremltools().proto.Model_pb2.Model.FromString(data)
    specification.description.ClearField("metadata")
    specification.mlProgram.ClearField("attributes")
    return bytes(specification.SerializeToString(deterministic=True))


def package_manifest() -> bytes:
    """The list of items that every package has; identifiers are random by custom, here they are names."""
    items = {
        "model.mlmodel": ("com.apple.CoreML/model.mlmodel", "CoreML Model Specification"),
        "weights": ("com.apple.CoreML/weights", "CoreML Model Weights"),
    }
    identifiers = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, path)) for name, (path, _) in items.items()}
    document = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            identifiers[name]: {
                "author": "com.apple.CoreML",
                "description": description,
                "name": name,
                "path": path,
            }
            for name, (path, description) in items.items()
        },
        "rootModelIdentifier": identifiers["model.mlmodel"],
    }
    return (json.dumps(document, indent=4, sort_keys=True) + "\n").encode("ascii")


def write_package(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a package below ``directory``, which must not exist yet.

    Raises:
        OSError: it cannot be written.
    """
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
