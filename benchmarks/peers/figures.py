"""How many times longer a system takes than ours, and what that figure is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.peers.results import Block, Comparison, OwnResult, PartResult, PeerResult
from edge_tta.evaluate.statistics import RESAMPLES, Estimate, percentile_interval

SEED = 7


def ratio(peer: PeerResult, block: Block, own: OwnResult) -> Estimate:
    """Time per second of sound of a peer over ours, with an interval of 95 %.

    Medians of resampled runs (bootstrap): of ours whole blocks are drawn first, because what else the machine did
    differed from block to block, then runs inside them.
    """
    random = np.random.default_rng(SEED)
    theirs = np.array(block.totals) / peer.seconds
    blocks = [np.array(found.totals) / own.seconds for found in own.blocks]
    value = float(np.median(theirs) / np.median(np.concatenate(blocks)))
    replicates = []
    for _ in range(RESAMPLES):
        drawn = [blocks[number] for number in random.integers(0, len(blocks), len(blocks))]
        pooled = np.concatenate([random.choice(times, len(times)) for times in drawn])
        replicates.append(np.median(random.choice(theirs, len(theirs))) / np.median(pooled))
    low, high = percentile_interval(replicates)
    return Estimate(value, low, high, len(theirs))


def fastest(comparison: Comparison) -> list[OwnResult]:
    """The fastest variant of every bundle of ours, in their order."""
    found: dict[str, OwnResult] = {}
    for own in comparison.ours:
        other = found.get(own.bundle)
        if other is None or np.median(own.totals) < np.median(other.totals):
            found[own.bundle] = own
    return list(found.values())


def gflop_of_sound(parts: Sequence[PartResult]) -> float:
    """10^9 operations for one sound."""
    return sum(part.calls * part.gflop for part in parts)


def parameters_of(parts: Sequence[PartResult]) -> int:
    """Parameters of all parts."""
    return sum(part.parameters for part in parts)


def stage_seconds(peer: PeerResult, block: Block, stage: str) -> float:
    """Median seconds a sound spends in the parts that do a stage's work."""
    names = [part.name for part in peer.parts if part.stage == stage]
    return float(np.median([sum(run[name] for name in names) for run in block.runs]))


def int8_share(own: OwnResult, comparison: Comparison) -> float:
    """Arithmetic of the generator a second, over what a large int8 matrix product reaches."""
    (generator,) = (part for part in own.parts if part.name == "generator")
    seconds = np.median([run["generator"] for block in own.blocks for run in block.runs])
    return float(generator.gflop / seconds / comparison.rates.int8)
