"""What can be said of the Gradle build and the resources without Gradle: names resolve, versions agree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from app_builds import APP, DEMO, PACKAGE, ROOT
from packaging.requirements import Requirement
from resource_ids import resource_names

pytestmark = pytest.mark.slow

SCRIPTS = sorted(DEMO.glob("*.kts")) + sorted(DEMO.glob("*/build.gradle.kts"))
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
ANDROID_NAME = "{http://schemas.android.com/apk/res/android}"


@pytest.fixture(scope="module")
def catalog() -> dict[str, Any]:
    """The catalog of versions."""
    return tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))


def test_catalog_keys_resolve(catalog: dict[str, Any]) -> None:
    """What scripts take from the catalog is in it, and what is in it is taken."""
    text = "\n".join(script.read_text(encoding="utf-8") for script in SCRIPTS)
    taken = {
        name.removesuffix(".get")
        for name in re.findall(r"\blibs\.([A-Za-z]+(?:\.[A-Za-z]+)*?)(?=\)|\.get\(\))", text)
    }
    offered = {name.replace("-", ".") for name in catalog["libraries"]}
    offered |= {f"plugins.{name.replace('-', '.')}" for name in catalog["plugins"]}
    plain = {f"versions.{name}" for name in ("compileSdk", "minSdk", "targetSdk")}
    assert taken == offered | plain
    referred = {
        entry["version"]["ref"] for kind in ("libraries", "plugins") for entry in catalog[kind].values()
    }
    assert referred | {name.removeprefix("versions.") for name in plain} == set(catalog["versions"])


def test_versions_agree_with_pythons(catalog: dict[str, Any]) -> None:
    """The runtimes on the device are ones that the Python package accepts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = [*project["dependencies"], *project["optional-dependencies"]["executorch"]]
    requirements = {requirement.name: requirement for requirement in map(Requirement, pinned)}
    for name in ("onnxruntime", "executorch"):
        assert requirements[name].specifier.contains(catalog["versions"][name]), name
    version = re.search(r'versionName = "(.*?)"', (DEMO / "app" / "build.gradle.kts").read_text())
    assert version is not None and version[1] == project["version"]


def test_android_levels() -> None:
    """The README and the tests speak of the same levels as the build."""
    from test_app_compiles import MIN_API

    versions = tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text())["versions"]
    assert int(versions["minSdk"]) == MIN_API
    assert versions["compileSdk"] == versions["targetSdk"]


def test_modules_are_there() -> None:
    """Every module of the settings has a build script and sources."""
    included = re.findall(r'"(:\w+)"', (DEMO / "settings.gradle.kts").read_text(encoding="utf-8"))
    assert included == [":engine", ":backends", ":app"]
    for module in included:
        folder = DEMO / module.removeprefix(":")
        assert (folder / "build.gradle.kts").is_file()
        assert any((folder / "src" / "main" / "kotlin").rglob("*.kt"))


def test_copied_files_are_of_the_bundle() -> None:
    """The files that the build copies into the app exist, and are all that the int8 variant needs."""
    script = (DEMO / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    included = re.search(r"include\((\"manifest.*?)\)", script)
    assert included is not None
    names = re.findall(r'"(.*?)"', included[1])
    bundle = ROOT / "edge_tta" / "assets" / "edge-10m"
    assert f'"../../{bundle.relative_to(ROOT)}"' in script
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    assert set(names) == {
        "manifest.json",
        *(manifest[entry]["file"] for entry in ("tokenizer", "model_card", "attributions")),
    }
    assert all((bundle / name).is_file() for name in names)
    stages = manifest["variants"]["ort-int8"]["stages"].values()
    assert {stage["file"].split("/")[0] for stage in stages} == {"ort-int8"}


def test_resources_are_used_and_there() -> None:
    """Every name that code and resources refer to exists, every name that exists is referred to."""
    names = resource_names(APP / "res")
    code = "\n".join(file.read_text(encoding="utf-8") for file in (APP / "kotlin").rglob("*.kt"))
    files = [*(APP / "res").rglob("*.xml"), APP / "AndroidManifest.xml"]
    markup = "\n".join(file.read_text(encoding="utf-8") for file in files)
    used = set(re.findall(r"(?<!android\.)\bR\.(\w+)\.(\w+)", code))
    used |= set(re.findall(r'"@(\w+)/(\w+)"', markup)) | set(re.findall(r">@(\w+)/(\w+)<", markup))
    defined = {(kind, name) for kind, entries in names.items() for name in entries}
    assert used <= defined
    assert {(kind, name) for kind, name in defined if kind != "id"} <= used


def test_texts_are_in_resources() -> None:
    """No text that a user sees is written in a layout."""
    for file in (APP / "res" / "layout").glob("*.xml"):
        for element in ElementTree.parse(file).iter():
            for attribute in ("text", "hint", "contentDescription"):
                value = element.get(ANDROID_NAME + attribute, "@string/")
                assert value.startswith("@string/") or value.isdigit(), value


def test_fields_have_labels() -> None:
    """A screen reader has a name for everything that can be touched."""
    root = ElementTree.parse(APP / "res" / "layout" / "main.xml").getroot()
    labelled = {element.get(ANDROID_NAME + "labelFor") for element in root.iter()}
    for element in root.iter():
        if element.tag in ("EditText", "Spinner", "SeekBar", "Button", f"{PACKAGE}.WaveformView"):
            identifier = (element.get(ANDROID_NAME + "id") or "").replace("@+id/", "@+id/")
            names = [element.get(ANDROID_NAME + name) for name in ("contentDescription", "hint", "text")]
            assert any(names) or identifier in labelled, identifier


def test_nothing_asks_for_permissions() -> None:
    """The app sends nothing anywhere and reads nothing of others."""
    manifest = (APP / "AndroidManifest.xml").read_text(encoding="utf-8")
    assert "uses-permission" not in manifest


def test_resources_link(tmp_path: Path) -> None:
    """Android's own tool accepts manifest, layouts and themes."""
    aapt2 = shutil.which("aapt2")
    if aapt2 is None or not FRAMEWORK.is_file():
        pytest.skip(
            "aapt2 and Android's framework resources are not installed (Debian: aapt android-framework-res)"
        )
    compiled = tmp_path / "resources.zip"
    run(aapt2, "compile", "--dir", str(APP / "res"), "-o", str(compiled))
    # Gradle writes the package's name and the levels into the manifest.
    source = (APP / "AndroidManifest.xml").read_text(encoding="utf-8")
    manifest = tmp_path / "AndroidManifest.xml"
    manifest.write_text(source.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1), encoding="utf-8")
    linked = tmp_path / "app.apk"
    run(
        aapt2, "link", "-I", str(FRAMEWORK), "--manifest", str(manifest), "-o", str(linked), str(compiled),
        "--min-sdk-version", "26", "--target-sdk-version", "36", "--java", str(tmp_path),
    )  # fmt: skip
    assert linked.stat().st_size > 0
    generated = (tmp_path / Path(*PACKAGE.split(".")) / "R.java").read_text(encoding="utf-8")
    for kind, names in resource_names(APP / "res").items():
        block = re.search(rf"class {kind} {{(.*?)\n  }}", generated, re.DOTALL)
        assert block is not None
        assert set(re.findall(r"int (\w+)=", block[1])) == names


def run(*command: str) -> None:
    """Run a tool that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
