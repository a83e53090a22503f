"""``edge-tta doctor``: is everything in place, and what would explain a problem."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show versions, processor, shipped bundles and extras; fails if a bundle is damaged or ONNX Runtime opens none."""
    from edge_tta.cli.console import say, say_json
    from edge_tta.errors import BackendError, BundleError

    report = examine()
    if json_output:
        say_json({"schema": "doctor/1", **report})
    else:
        for line in _lines(report):
            say(line)
    broken = [f"{name} ({state})" for name, state in report["bundles"].items() if state != "ok"]
    if report["runtime"] != "ok":
        raise BackendError(report["runtime"])
    if broken:
        raise BundleError(f"shipped bundle {', '.join(broken)} is damaged; install the package again")


def examine() -> dict[str, Any]:
    """Everything the verb shows, as plain values."""
    import platform

    from edge_tta.bundle import Bundle
    from edge_tta.bundle.shipped import shipped_bundles
    from edge_tta.cli.extras import EXTRA_PACKAGES, installed_version, own_version
    from edge_tta.errors import BackendError, BundleError
    from edge_tta.runtime.device import cpu_features, cpu_model
    from edge_tta.runtime.ort_backend import check_onnxruntime
    from edge_tta.runtime.pipeline import default_threads

    bundles = {}
    intact: Bundle | None = None
    for name, path in shipped_bundles().items():
        try:
            opened = Bundle.open(path)
            intact = intact or opened
            bundles[name] = "ok"
        except BundleError as error:
            bundles[name] = str(error)
    try:
        check_onnxruntime(intact)
        runtime = "ok"
    except BackendError as error:
        runtime = str(error)
    core = ("numpy", "onnxruntime", "soundfile", "sentencepiece", "pydantic", "typer", "rich")
    missing = {
        extra: [package for package in packages if installed_version(package) is None]
        for extra, packages in EXTRA_PACKAGES.items()
    }
    return {
        "edge_tta": own_version(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": cpu_model(),
        "cpu_features": list(cpu_features()),
        "default_threads": default_threads(),
        "packages": {package: installed_version(package) for package in core},
        "missing_by_extra": missing,
        "bundles": bundles,
        "runtime": runtime,
        "shadowed": shadowed_packages(),
    }


def shadowed_packages() -> dict[str, str]:
    """Our top-level packages that Python would import from elsewhere, with that place and who put it there.

    ``quantization`` and ``export`` are common names: another distribution may bring its own.
    """
    from importlib.metadata import packages_distributions
    from importlib.util import find_spec
    from pathlib import Path

    import edge_tta

    home = Path(edge_tta.__file__).resolve().parent.parent
    found = {}
    for name in ("quantization", "export"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        place = Path(spec.origin).resolve().parent
        if place.parent != home:
            owners = [owner for owner in packages_distributions().get(name, []) if owner != "edge-tta"]
            found[name] = f"{place}" + (f" (from {', '.join(sorted(set(owners)))})" if owners else "")
    return found


def _lines(report: dict[str, Any]) -> list[str]:
    features = ", ".join(report["cpu_features"]) or "none that speed up int8, or they cannot be read"
    lines = [
        f"edge-tta {report['edge_tta']}, Python {report['python']}, {report['os']}",
        f"processor: {report['cpu']}; {features}; {report['default_threads']} threads by default",
        "packages: "
        + ", ".join(f"{name} {version or 'MISSING'}" for name, version in report["packages"].items()),
    ]
    for name, state in report["bundles"].items():
        lines.append(f"bundle {name}: {state}")
    if not report["bundles"]:
        lines.append("bundles: none is shipped with this installation; use --bundle")
    lines.append(
        f"runtime: {'onnxruntime opens a graph' if report['runtime'] == 'ok' else report['runtime']}"
    )
    for extra, missing in report["missing_by_extra"].items():
        state = "complete" if not missing else f"lacks {', '.join(missing)}"
        lines.append(f"extra {extra}: {state}")
    for name, place in report["shadowed"].items():
        lines.append(
            f"warning: the package '{name}' is shadowed by {place}; export and quantize will not work"
        )
    return lines
