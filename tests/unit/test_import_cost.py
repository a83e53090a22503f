"""Importing is cheap and does nothing: apps pay for what they use, when they use it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_IMPORT_SECONDS = 0.150
REPEATS = 5
HEAVY = ("torch", "onnxruntime", "onnx", "scipy", "soundfile", "sentencepiece", "pydantic", "typer")
EXTRAS = (
    "PIL",
    "accelerate",
    "coremltools",
    "executorch",
    "matplotlib",
    "onnx",
    "onnxscript",
    "safetensors",
    "scipy",
    "soxr",
    "tensorboard",
    "tokenizers",
    "torch",
    "torchao",
)
TORCH_FREE = (
    "audio", "bundle", "catalog", "cli", "config", "decode", "errors", "files", "noise", "runtime", "text",
)  # fmt: skip


def run(code: str) -> dict[str, object]:
    """Run Python in a fresh process from the root and read the JSON object it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def torch_free_modules() -> list[str]:
    """Every module that must import with the core install alone."""
    names = []
    for path in sorted((ROOT / "edge_tta").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if len(parts) > 1 and parts[1] in TORCH_FREE and parts[-1] != "eager_backend":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_import_time() -> None:
    code = """
import json, sys, time
start = time.perf_counter()
import edge_tta
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "modules": [name for name in sys.modules if "." not in name]}))
"""
    answers = [run(code) for _ in range(REPEATS)]
    assert statistics.median(float(str(answer["seconds"])) for answer in answers) <= MAX_IMPORT_SECONDS
    modules = answers[0]["modules"]
    assert isinstance(modules, list)
    assert sorted(set(HEAVY) & set(modules)) == []


def test_public_names_resolve_and_unknown_ones_do_not() -> None:
    import edge_tta

    for name in edge_tta.__all__:
        assert getattr(edge_tta, name).__name__ == name
        assert name in dir(edge_tta)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = edge_tta.no_such_name


def test_importing_has_no_side_effects() -> None:
    """No file written, no process, thread or connection started, no logging or environment changed."""
    code = f"""
import json, logging, os, sys, threading, warnings
import numpy
before = (dict(os.environ), os.getcwd(), list(logging.root.handlers), logging.root.level,
          numpy.random.get_state()[1].tobytes(), threading.active_count(), numpy.geterr())
acts = []
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.mkdir", "os.rename", "os.remove", "socket.connect"):
        acts.append([event, repr(arguments)[:200]])
    if event == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1]):
        acts.append([event, repr(arguments)[:200]])
sys.addaudithook(watch)
import importlib
for name in {torch_free_modules()!r}:
    importlib.import_module(name)
after = (dict(os.environ), os.getcwd(), list(logging.root.handlers), logging.root.level,
         numpy.random.get_state()[1].tobytes(), threading.active_count(), numpy.geterr())
print(json.dumps({{"acts": acts, "changed": [i for i, (a, b) in enumerate(zip(before, after)) if a != b],
                  "torch": "torch" in sys.modules, "onnxruntime": "onnxruntime" in sys.modules}}))
"""
    assert run(code) == {"acts": [], "changed": [], "torch": False, "onnxruntime": False}


def test_core_install_suffices_for_the_runtime_and_the_command_line() -> None:
    """With every optional package hidden, all modules that run on the device still import."""
    code = f"""
import importlib, importlib.abc, json, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Hide())
imported = []
for name in {torch_free_modules()!r}:
    importlib.import_module(name)
    imported.append(name)
print(json.dumps({{"imported": imported}}))
"""
    imported = run(code)["imported"]
    assert isinstance(imported, list)
    assert {"edge_tta.runtime.pipeline", "edge_tta.bundle", "edge_tta.noise", "edge_tta.cli.main"} <= set(
        imported
    )
