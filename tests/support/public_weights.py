"""Tiny random FLAN-T5 and CLAP checkpoints in the public file layout; needs transformers."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    RobertaTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

TEXTS = ("rain on a tin roof", "a dog barks twice in the yard", "wind and distant thunder", "an engine idles")
WIDTH = 8
"""Of the T5's features; CLAP's are wider."""


def write_t5(folder: Path, **changes: int) -> Path:
    """A tiny FLAN-T5: gated feed-forward, untied tables, ``spiece.model`` with pad 0, end 1, unknown 2."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_writer=model,
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    settings = {"d_model": WIDTH, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4} | changes
    config = T5Config(
        vocab_size=320,
        num_decoder_layers=1,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = T5ForConditionalGeneration(config)
        with torch.no_grad():
            network.shared.weight.normal_()
    network.save_pretrained(folder)
    (folder / "spiece.model").write_bytes(model.getvalue())
    return folder


def write_clap(folder: Path) -> Path:
    """A tiny CLAP with its feature extractor and a byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    words.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    RobertaTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    text = ClapTextConfig(
        vocab_size=320,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        projection_dim=12,
    )
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=4,
        hidden_size=32,
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        projection_dim=12,
        num_classes=5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=12)
        ClapModel(config).save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return folder
