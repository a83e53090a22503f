"""``edge-tta info``: what is inside a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_tta.cli.options import BundleArgument


def info(
    bundle: BundleArgument = None,
    operators: Annotated[
        bool,
        typer.Option("--operators", help="Also show where the operators of ExecuTorch programs run."),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what a bundle makes, its variants with size and measured parity, licence and training data."""
    from edge_tta.bundle import Bundle
    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.variant_lines import operator_table, variant_lines

    opened = Bundle.open(bundle)
    manifest, audio = opened.manifest, opened.config.audio
    sizes = {name: variant.size() for name, variant in opened.variants.items()}
    if json_output:
        document = manifest.model_dump(mode="json")
        say_json(
            {
                "schema": "info/1",
                "root": str(opened.root),
                "digest": opened.digest,
                "sizes": sizes,
                **document,
            }
        )
        return
    limits = manifest.generation
    say(f"{opened.name}, version {manifest.version}: {manifest.description}")
    say(f"  folder         {opened.root}")
    sound = f"{audio.min_seconds:g} to {audio.max_seconds:g} s, {audio.sample_rate} Hz"
    say(f"  sound          {sound}, {_channels(audio.channels)}")
    say(f"  steps          1 to {limits.max_steps}, sampler {limits.sampler}")
    say(
        f"  guidance       {limits.min_guidance:g} to {limits.max_guidance:g}, default {limits.default_guidance:g}"
    )
    say(f"  prompt         at most {manifest.tokenizer.max_tokens} tokens")
    say(f"  licence        {manifest.licence}")
    say(f"  training data  {manifest.training_data}")
    say(
        f"  made from      {manifest.provenance.checkpoint}, commit {manifest.provenance.commit or 'unknown'}"
    )
    for name, variant in sorted(opened.variants.items()):
        for line in variant_lines(name, variant):
            say(line)
    if operators:
        for name, variant in sorted(opened.variants.items()):
            if variant.delegation:
                say("")
                for line in operator_table(name, variant):
                    say(line)


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")
