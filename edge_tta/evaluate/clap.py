"""CLAP as an embedder: sound and text in one space, from a local folder in Hugging Face layout.

Wu et al., "Large-scale contrastive language-audio pretraining with feature fusion and keyword-to-caption augmentation"
(2023, https://arxiv.org/abs/2211.06687), through ``transformers``. Scores of different checkpoints must not be
compared: the same clips get 0.3 from one and 0.6 from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_tta.errors import DataError, MissingExtraError
from edge_tta.evaluate.local_weights import folder_digest
from edge_tta.evaluate.spectral import FloatArray, mono

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
FILES = (
    *WEIGHTS,
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)
"""Everything that decides what CLAP answers; the digest covers those that are there."""


class ClapEmbedder:
    """CLAP from a local folder; see ``TextEmbedder``. Nothing is ever fetched.

    Args:
        folder: Hugging Face layout: ``config.json``, weights, ``preprocessor_config.json`` and the tokenizer.

    Raises:
        DataError: the folder or one of its files is missing or damaged.
        MissingExtraError: transformers is not installed.
    """

    name = "clap"

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        for names in (
            ("config.json",),
            WEIGHTS,
            ("preprocessor_config.json",),
            ("tokenizer.json", "vocab.json"),
        ):
            if not any((folder / name).is_file() for name in names):
                raise DataError(f"{folder}: not a CLAP folder, it has no {' or '.join(names)}")
        try:
            from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel
        except ImportError as error:
            raise MissingExtraError("public", "CLAP") from error
        try:
            self.model: Any = ClapModel.from_pretrained(folder, local_files_only=True).float().eval()
            self.extractor: Any = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library raises whatever its parts do
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise DataError(f"{folder}: cannot be loaded as CLAP ({lines[0][:200]})") from error
        self.sample_rate = int(self.extractor.sampling_rate)
        self.digest = folder_digest(folder, FILES)
        # Two positions are the padding's, a convention of the text tower's positions.
        self._longest_text = int(self.model.config.text_config.max_position_embeddings) - 2

    def embed(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Audio embeddings of length 1, float32 [N, D].

        Clips longer than the model's window (10 s) are covered by evenly spaced windows and their embeddings averaged:
        the library's own way, a random window, would give another figure every time.
        """
        window = int(self.extractor.nb_max_samples)
        rows = []
        with torch.inference_mode():
            for clip in clips:
                signal = mono(clip)
                starts = np.linspace(0, max(0, len(signal) - window), -(-len(signal) // window)).astype(int)
                features = [self._audio(signal[start : start + window]) for start in starts]
                rows.append(_unit(torch.cat(features).mean(dim=0)).numpy())
        return np.stack(rows)

    def _audio(self, signal: FloatArray) -> Tensor:
        inputs = self.extractor(signal, sampling_rate=self.sample_rate, return_tensors="pt")
        return _unit(_tensor(self.model.get_audio_features(**inputs)))

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Text embeddings of length 1, float32 [N, D]; one by one, so that a text's vector never depends on others."""
        rows = []
        with torch.inference_mode():
            for text in texts:
                inputs = self.tokenizer(
                    text, truncation=True, max_length=self._longest_text, return_tensors="pt"
                )
                chosen = {name: inputs[name] for name in ("input_ids", "attention_mask")}
                rows.append(_unit(_tensor(self.model.get_text_features(**chosen))[0]).numpy())
        return np.stack(rows)


def _tensor(output: Any) -> Tensor:
    """Releases differ in whether features come as a tensor or inside an output object."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
