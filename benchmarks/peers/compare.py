"""One comparison from beginning to end: prepare everything, then time ours and the peers by turns."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.counts import count_part
from benchmarks.peers.own import LARGE, Counts, measure_own, prepare, result, runnable
from benchmarks.peers.rates import SIZE, measure_rates
from benchmarks.peers.results import Block, Comparison, PartResult, PeerResult
from benchmarks.peers.systems import PEERS, Peer, peer
from benchmarks.peers.worker import Forms, Job, run_block, try_forms
from edge_tta.bundle import Bundle
from edge_tta.errors import ConfigError
from edge_tta.runtime.device import this_device
from edge_tta.runtime.revision import source_commit

MIN_RUNS = 5
PACKAGES = ("torch", "onnxruntime", "executorch", "edge-tta")


@dataclass(frozen=True)
class Plan:
    """What to compare."""

    threads: int
    seconds: float = 10.0
    """Of our sounds; the peers make what they always make."""
    runs: int = MIN_RUNS
    """Timed sounds of a peer."""
    peers: tuple[str, ...] = PEERS
    tiny: bool = False
    """Shrunken peers and no large model of ours, to try the command."""

    def __post_init__(self) -> None:
        if self.runs < MIN_RUNS:
            raise ConfigError(f"runs {self.runs} is out of range: at least {MIN_RUNS}")
        if not self.peers:
            raise ConfigError("nothing to compare with")


@dataclass
class _Own:
    bundle: Bundle
    variant: str
    counts: Counts
    blocks: list[Block]


def compare(plan: Plan, work: Path, tell: Callable[[str], None]) -> Comparison:
    """Run a comparison.

    Args:
        plan: what to compare.
        work: folder for exported files; what is there already is not exported again.
        tell: told what is done next.

    Raises:
        EdgeTTAError: a piece failed.
    """
    systems = [peer(name, plan.tiny) for name in plan.peers]
    ours = _prepare_own(plan, work, tell)
    forms = {system.name: _try_all(system, plan, work, tell) for system in systems}
    tell("matrix products")
    rates = measure_rates(plan.threads, 256 if plan.tiny else SIZE)
    blocks: dict[tuple[str, str], Block] = {}
    for system in systems:
        for kind in ("eager", "onnx"):
            _measure_own(ours, plan, tell)
            tell(f"{system.title}, {kind}: {plan.runs} sounds")
            files = {name: found.file for name, found in forms[system.name].items()}
            job = Job(kind, system.name, plan.tiny, plan.threads, plan.runs, files=files)
            blocks[system.name, kind] = run_block(job)
    _measure_own(ours, plan, tell)
    device = this_device()
    return Comparison(
        schema="peers/1",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=source_commit(),
        device=device,
        fingerprint=device.fingerprint,
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := _version(name)) is not None},
        threads=plan.threads,
        tiny=plan.tiny,
        rates=rates,
        ours=tuple(result(own.bundle, own.variant, plan.seconds, own.counts, own.blocks) for own in ours),
        peers=tuple(
            _peer_result(
                system, forms[system.name], blocks[system.name, "eager"], blocks[system.name, "onnx"]
            )
            for system in systems
        ),
    )


def _prepare_own(plan: Plan, work: Path, tell: Callable[[str], None]) -> list[_Own]:
    """Every variant of ours that runs here, the shipped model's first."""
    found = []
    folders = [Bundle.open(None).root]
    if not plan.tiny:
        folders.append(work / LARGE)
    for folder in folders:
        tell(f"{folder.name}: preparing")
        counts = prepare(folder, folder.name, plan.seconds)
        bundle = Bundle.open(folder)
        found += [_Own(bundle, variant, counts, []) for variant in runnable(bundle)]
    return found


def _measure_own(ours: Sequence[_Own], plan: Plan, tell: Callable[[str], None]) -> None:
    for own in ours:
        tell(f"{own.bundle.manifest.name} {own.variant}")
        own.blocks.append(measure_own(own.bundle, own.variant, plan.threads, plan.seconds))


def _try_all(system: Peer, plan: Plan, work: Path, tell: Callable[[str], None]) -> dict[str, Forms]:
    """The forms of every part, each part in a process of its own."""
    found = {}
    for part in system.parts:
        tell(f"{system.title}: ONNX forms of {part.name}")
        folder = work / (f"{system.name}-tiny" if plan.tiny else system.name)
        job = Job("forms", system.name, plan.tiny, plan.threads, part=part.name, folder=str(folder))
        found[part.name] = try_forms(job)
    return found


def _peer_result(system: Peer, forms: dict[str, Forms], eager: Block, onnx: Block) -> PeerResult:
    parts: list[PartResult] = [
        replace(count_part(part), candidates=forms[part.name].candidates, chosen=forms[part.name].chosen)
        for part in system.parts
    ]
    return PeerResult(
        name=system.name,
        title=system.title,
        seconds=system.seconds,
        sample_rate=system.sample_rate,
        channels=system.channels,
        steps=system.steps,
        parts=tuple(parts),
        eager=eager,
        onnx=onnx,
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
