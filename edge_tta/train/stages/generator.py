"""Training the generator on cached latents, with any objective of ``edge_tta.flow.objectives``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_tta.config import ModelConfig, dict_digest
from edge_tta.errors import ConfigError
from edge_tta.flow.couple_store import weights_digest
from edge_tta.flow.objectives.alpha_flow import AlphaFlow
from edge_tta.flow.objectives.arc import Arc
from edge_tta.flow.objectives.dmd2 import Dmd2
from edge_tta.flow.objectives.flow_matching import FlowMatching
from edge_tta.flow.objectives.improved_mean_flow import ImprovedMeanFlow
from edge_tta.flow.objectives.integrated_flow import IntegratedFlow
from edge_tta.flow.objectives.mean_flow import MeanFlow
from edge_tta.flow.objectives.method import CoupleLearner, Method, Objective
from edge_tta.flow.objectives.one_step import OneStepDistillation
from edge_tta.flow.objectives.reflow import Reflow
from edge_tta.flow.ping_pong import ping_pong
from edge_tta.flow.sampler import sample
from edge_tta.model.checkpoint import load_model_checkpoint, save_part
from edge_tta.model.fake_quantization import fake_quantize
from edge_tta.model.generator import Generator
from edge_tta.model.layers import seeded_dropout
from edge_tta.model.scheme import StageScheme
from edge_tta.noise import gaussian_noise
from edge_tta.ranges import BELOW_ONE, COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE, require_ranges
from edge_tta.train.batches import to_device
from edge_tta.train.couple_data import CODEC, TEXT_ENCODER, CoupleBatch, CoupleData, latents_of, origin_of
from edge_tta.train.frozen import FrozenParts
from edge_tta.train.latents import Batch, LatentSet
from edge_tta.train.loop import STREAM
from edge_tta.train.public_text import PublicTextConfig
from edge_tta.train.track import write_examples
from edge_tta.train.wordings import TextVariety, WordingPool

OBJECTIVES = (
    "flow_matching",
    "mean_flow",
    "alpha_flow",
    "improved_mean_flow",
    "integrated_flow",
    "reflow",
    "one_step",
    "arc",
    "dmd2",
)
"""Recipe tables of the training methods."""


@dataclass(frozen=True)
class GeneratorStageConfig:
    """What the generator learns from."""

    start: str = ""
    """Checkpoint directory whose generator is the start; empty for fresh weights."""
    teacher: str = ""
    """Checkpoint directory of a flow-matching generator whose guided velocity MeanFlow learns to integrate."""
    couples: str = ""
    """Folder of stored couples that ``reflow`` or ``one_step`` learns from in place of a teacher. They are used
    whole, so the settings of length and reuse below do not count."""
    codec: str = ""
    """Checkpoint directory of the codec, and of text encoder and tokenizer where the trained checkpoint has none; they
    are copied beside the generator. Empty for the trained checkpoint's own."""
    public_text: PublicTextConfig | None = None
    """Public networks that captions are told by; none for the text encoder of the checkpoint."""
    frames: int = 2400
    """Latent frames in a batch."""
    max_frames: int = 259
    """Longest window in latent frames; longer ones are cut."""
    short_frames: int = 64
    """Length cap of the steps below."""
    short_step_share: float = 0.5
    """Share of steps on windows cut to ``short_frames``: many short examples teach labels faster."""
    seed: int = 0
    sample_prompts: tuple[str, ...] = (
        "a dog barking", "rain falling on a roof", "a baby crying", "church bells ringing",
        "a clock ticking", "birds singing", "glass breaking", "a siren wailing",
    )  # fmt: skip
    """Prompts of the samples written while training; must be among the cached captions to be used."""
    sample_steps: int = 1
    sample_guidance: float = 3.0
    sample_seconds: float = 4.0
    compile: bool = False
    """Train through ``torch.compile``: on CPUs about twice as fast with bf16, after a minute of compiling."""
    dropout: float = 0.0
    """Share of the values of every attention and MLP branch that is left out in training, as residual dropout."""
    text: TextVariety = field(default_factory=TextVariety)
    """How much what the generator is told varies from step to step."""
    quantization: StageScheme | None = None
    """Layers that train as their quantized form will compute, as the generator's table in a quantization recipe."""
    reuse: int = 1
    """Steps that train on the same batch: a teacher's answer may cost more than learning from it."""
    flow_matching: FlowMatching | None = None
    """Objective settings; exactly one objective is given."""
    mean_flow: MeanFlow | None = None
    improved_mean_flow: ImprovedMeanFlow | None = None
    alpha_flow: AlphaFlow | None = None
    integrated_flow: IntegratedFlow | None = None
    reflow: Reflow | None = None
    one_step: OneStepDistillation | None = None
    arc: Arc | None = None
    dmd2: Dmd2 | None = None

    def __post_init__(self) -> None:
        require_ranges(self, frames=COUNT, max_frames=COUNT, short_frames=COUNT, short_step_share=SHARE)
        require_ranges(self, sample_steps=COUNT, sample_guidance=NOT_NEGATIVE, sample_seconds=POSITIVE)
        require_ranges(self, dropout=BELOW_ONE, reuse=COUNT, seed=SEED)
        if self.couples and self.reflow is None and self.one_step is None:
            raise ConfigError(
                "generator.couples are for reflow and one_step; other objectives have no use for them"
            )
        if self.couples and self.text.active:
            raise ConfigError(
                "generator.text varies windows; stored couples keep the captions they were made for"
            )

    def objective(self) -> Objective:
        """The objective that is given.

        Raises:
            ConfigError: none is given, or more than one.
        """
        given = [getattr(self, name) for name in OBJECTIVES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(f"generator stage: give exactly one of {', '.join(OBJECTIVES)}")
        found: Objective = given[0]
        return found


def _compiled(network: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(network, dynamic=True)  # type: ignore[assignment]
    return compiled


class GeneratorStage:
    """Generator under one objective.

    Args:
        config: stage settings.
        model: model configuration.
        data: cached latents and text features of training windows, or stored couples.
        validation: the same of validation clips, or None.
        frozen: codec, for sample sounds, and what the data's text features come from.
        wordings: where the text of every step comes from; None for the stored captions.
    """

    def __init__(
        self,
        config: GeneratorStageConfig,
        model: ModelConfig,
        data: LatentSet | CoupleData,
        validation: LatentSet | None,
        frozen: FrozenParts,
        wordings: WordingPool | None = None,
    ) -> None:
        self.config, self.model, self.frozen = config, model, frozen
        self.data, self.validation, self.wordings = data, validation, wordings
        self.device = torch.device("cpu")
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.generator = Generator(model.generator)
        self.teacher: Generator | None = None
        if config.teacher and not config.couples:
            self.teacher = self._load(Path(config.teacher)).requires_grad_(False)
        if config.start:
            start = self._load(Path(config.start))
            if start.config != model.generator:
                raise ConfigError(f"{config.start} holds a generator of another shape than {model.name} has")
            self.generator.load_state_dict(start.state_dict(), strict=True)
        if config.quantization is not None:
            fake_quantize(self.generator, config.quantization, "generator")
        networks: list[nn.Module | None] = [self.generator, self.teacher]
        if config.compile:
            networks = [None if network is None else _compiled(network) for network in networks]
        network, teacher = networks
        assert network is not None
        with torch.random.fork_rng():
            torch.manual_seed(config.seed + 1)
            self.method = self._method(network, teacher)

    def _method(self, network: nn.Module, teacher: nn.Module | None) -> Method:
        objective = self.config.objective()
        if self.config.couples and isinstance(objective, (Reflow, OneStepDistillation)):
            return objective.learner(network)
        if isinstance(objective, (IntegratedFlow, Reflow, OneStepDistillation)):
            return objective.method(network, teacher, self.config.seed)
        if isinstance(objective, AlphaFlow):
            return objective.method(network, teacher, self.config.reuse)
        return objective.method(network, teacher)

    @staticmethod
    def _load(directory: Path) -> Generator:
        loaded = load_model_checkpoint(directory, parts=("generator",)).generator
        if loaded is None:
            raise ConfigError(f"{directory} has no generator")
        return loaded

    def origin(self) -> dict[str, str]:
        """Codec, text networks and teacher, the windows or couples, and the free wordings."""
        made = origin_of(self.frozen.codec, self.frozen.text)
        found = {
            "codec": made[CODEC],
            "text encoder": made[TEXT_ENCODER],
            "teacher": "" if self.teacher is None else weights_digest(self.teacher),
            "captions": "" if self.wordings is None else dict_digest({"free": self.wordings.free}),
        }
        return {**found, "data": self.data.digest} if self.data.digest else found

    def modules(self) -> dict[str, nn.Module]:
        """The generator and what the method trains beside it; codec and text encoder stay as they are."""
        return {"generator": self.generator, **self.method.modules()}

    def averaged(self) -> Iterable[str]:
        """The generator's average is what ships."""
        return ("generator",)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The method's optimisers."""
        return self.method.groups()

    def due(self, group: str, step: int) -> bool:
        """As the method wants it."""
        return self.method.due(group, step)

    def to(self, device: torch.device) -> None:
        """Move generator, teacher, the method's networks and the codec."""
        self.device = device
        for module in (self.generator, self.teacher, self.frozen.codec, *self.method.modules().values()):
            if module is not None:
                module.to(device)
            if isinstance(module, Generator):
                # The fused kernel's backward pass is slow on CPUs, and nothing a compiler could work on.
                module.explicit_attention = device.type == "cpu"

    def batch(self, step: int) -> Batch | CoupleBatch:
        """Windows of about equal length, or stored couples of one length with their own captions."""
        if isinstance(self.data, CoupleData):
            return self.data.batch(self.config.seed, step, self.config.frames)
        stream, own = divmod(step, STREAM)
        number = STREAM * stream + own // self.config.reuse
        draw = torch.rand((), generator=torch.Generator().manual_seed(self.config.seed * 2**20 + number))
        short = float(draw) < self.config.short_step_share
        cap = self.config.short_frames if short else self.config.max_frames
        batch = self.data.batch(self.config.seed, number, self.config.frames, cap)
        # The same windows again, but never told in the same words.
        return batch if self.wordings is None else self.wordings.vary(batch, self.config.seed, step)

    def losses(self, group: str, batch: Batch | CoupleBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The method's losses."""
        if self.config.dropout > 0:
            with seeded_dropout(self.generator, self.config.dropout, generator):
                return self._losses(group, batch, generator)
        return self._losses(group, batch, generator)

    def _losses(
        self, group: str, batch: Batch | CoupleBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        if isinstance(batch, CoupleBatch):
            assert isinstance(self.method, CoupleLearner)
            return self.method.couple_losses(batch.couples, batch.condition, generator)
        return self.method.losses(group, batch.latents, batch.condition, batch.step, generator)

    def validate(self) -> dict[str, float]:
        """Flow-matching error on validation windows at fixed noise and times; comparable between objectives."""
        if self.validation is None:
            return {}
        objective, total, rounds = FlowMatching(null_share=0.0), 0.0, 8
        with torch.no_grad():
            for step in range(rounds):
                drawn = self.validation.batch(1, step, self.config.frames, self.config.max_frames)
                batch = to_device(drawn, self.device)
                generator = torch.Generator().manual_seed(step)
                total += float(
                    objective.losses(self.generator, batch.latents, batch.condition, generator)["loss"]
                )
        return {"validation_velocity_error": total / rounds}

    def sample(self, directory: Path) -> None:
        """Sounds and spectrograms of the sample prompts, one seed each."""
        prompts = tuple(text for text in self.config.sample_prompts if text in self.data.features)
        if not prompts:
            return
        audio = self.model.audio
        seconds = self.config.sample_seconds
        noise = gaussian_noise(0, (audio.latent_frames(seconds), audio.latent_channels))
        rows = torch.from_numpy(noise).expand(len(prompts), *noise.shape).to(self.device)
        condition = self.data.condition(prompts, torch.full((len(prompts),), seconds))
        condition = to_device(condition, self.device)
        flow_only = self.method.classifier_free
        steps = max(8, self.config.sample_steps) if flow_only else self.config.sample_steps
        guidance = self.config.sample_guidance
        if self.method.sampler == "ping-pong":
            draws = torch.Generator().manual_seed(0)
            latents = ping_pong(self.generator, rows, condition, steps, draws, guidance)
        else:
            latents = sample(self.generator, rows, condition, steps, guidance, classifier_free=flow_only)
        with torch.no_grad():
            waveforms = self.frozen.codec.decode(latents).cpu()
        write_examples(directory, list(prompts), [row.numpy() for row in waveforms], audio.sample_rate)

    def export(self, directory: Path) -> None:
        """Write ``generator.safetensors``, which names its codec, and beside it what was read from elsewhere."""
        note = (CODEC, latents_of(self.frozen.codec))
        save_part(directory, self.model, "generator", self.generator, note)
        self.frozen.accompany(directory, self.model)
