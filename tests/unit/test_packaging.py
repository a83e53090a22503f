"""What the distribution holds and asks for: exactly three import packages, all their data, only what they use."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge_tta", "export", "quantization")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DISTRIBUTIONS = {"PIL": "pillow"}
"""Distribution of an import name where the two differ."""
TARGETS = ("executorch", "coreml")
"""Extras of export targets that are not part of the core install."""
INDIRECT = {"onnxscript", "tensorboard"}
"""Used through torch (torch.onnx.export, torch.utils.tensorboard), so no import statement names them."""


def distribution(requirement: str) -> str:
    """Name of the distribution a requirement asks for, without version and extras."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower()


def third_party_imports(files: list[Path]) -> dict[str, set[str]]:
    """Distributions that import statements ask for, with the files that ask."""
    found: dict[str, set[str]] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top not in PACKAGES:
                    found.setdefault(DISTRIBUTIONS.get(top, top), set()).add(str(path.relative_to(ROOT)))
    return found


def package_files() -> set[str]:
    """Every file below the three packages that belongs into the wheel."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built offline from a copy of the sources that also holds what must stay outside."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("tests", "benchmarks", "checkpoints", "android_demo"):
        (source / name).mkdir()
        (source / name / "__init__.py").write_text("")
    output = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(output),
        str(source),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = output.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_has_exactly_three_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    metadata = f"edge_tta-{PROJECT['version']}.dist-info"
    assert tops == {*PACKAGES, metadata}


def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.split("/")[0] in PACKAGES}
    assert packed == package_files()


def test_wheel_holds_data_licence_and_type_markers(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(name.startswith("edge_tta/") and name.endswith(".toml") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_metadata_names_licence_python_and_command(wheel: zipfile.ZipFile) -> None:
    folder = f"edge_tta-{PROJECT['version']}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert metadata["Name"] == "edge-tta"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert wheel.read(f"{folder}/entry_points.txt").decode().split() == [
        "[console_scripts]",
        "edge-tta",
        "=",
        "edge_tta.cli.start:main",
    ]


def test_core_install_asks_for_no_torch() -> None:
    core = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    assert core == {"numpy", "onnxruntime", "pydantic", "rich", "sentencepiece", "soundfile", "typer"}


def test_every_import_is_declared_and_every_dependency_is_used() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    imports = third_party_imports(files)
    declared = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    for extra in ("train", "export", "eval", "public", *TARGETS):
        declared |= {distribution(requirement) for requirement in EXTRAS[extra]}
    assert {name: users for name, users in imports.items() if name not in declared} == {}
    assert declared - set(imports) - INDIRECT == set()


@pytest.mark.parametrize(
    ("extra", "folders"),
    [
        ("train", ("edge_tta/train", "edge_tta/flow", "edge_tta/model", "edge_tta/evaluate")),
        ("export", ("export", "quantization", "edge_tta/model")),
        ("eval", ("edge_tta/evaluate",)),
    ],
)
def test_an_extra_covers_what_its_packages_import(extra: str, folders: tuple[str, ...]) -> None:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    # Public weights and targets beside ONNX are optional everywhere: a MissingExtraError names their extra.
    brought = [*PROJECT["dependencies"], *EXTRAS[extra]]
    brought += [requirement for optional in ("public", *TARGETS) for requirement in EXTRAS[optional]]
    offered = {distribution(requirement) for requirement in brought}
    assert {name: users for name, users in third_party_imports(files).items() if name not in offered} == {}


def test_errors_name_extras_that_exist() -> None:
    """``MissingExtraError("name", ...)`` tells users what to install: the extra must exist."""
    named = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtraError":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    named[f"{path.relative_to(ROOT)}:{node.lineno}"] = first.value
    assert named
    assert {place: extra for place, extra in named.items() if extra not in EXTRAS} == {}


def test_the_command_line_knows_the_extras() -> None:
    """What the command line says brings a package must bring it."""
    from edge_tta.cli.extras import EXTRA_PACKAGES

    for extra, packages in EXTRA_PACKAGES.items():
        offered = {distribution(requirement) for requirement in EXTRAS[extra]}
        assert {DISTRIBUTIONS.get(package, package) for package in packages} <= offered, extra


def test_extras_agree_on_versions() -> None:
    """One distribution, one requirement, whichever extra brings it."""
    asked: dict[str, set[str]] = {}
    for requirement in [*PROJECT["dependencies"], *(item for items in EXTRAS.values() for item in items)]:
        if distribution(requirement) != "edge-tta":
            asked.setdefault(distribution(requirement), set()).add(requirement)
    assert {name: requirements for name, requirements in asked.items() if len(requirements) > 1} == {}


def test_every_training_recipe_loads() -> None:
    """Strictly: an unknown key or a wrong type in a packaged recipe is an error here, not at the user's."""
    from edge_tta.train.recipes import list_recipes, load_recipe

    files = {path.stem for path in (ROOT / "edge_tta" / "train" / "recipes").glob("*.toml")}
    assert files
    assert set(list_recipes()) == files
    for name in files:
        assert load_recipe(name).description, name


def test_every_quantization_recipe_loads() -> None:
    from quantization.recipe import load_recipe

    files = {path.stem for path in (ROOT / "quantization" / "recipes").glob("*.toml")}
    assert files
    for name in files:
        load_recipe(name)
