"""Tiny encoders of text and of speech with random weights, in folders as the hub has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

BERT_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def _write(folder: Path, model: str, config: Any) -> None:
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, model)(config).save_pretrained(folder)


def write_bert(folder: Path, pieces: Sequence[str], positions: int = 64) -> Path:
    """Write a BERT whose vocabulary is [PAD], [UNK], [CLS], [SEP] and these word pieces."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, PreTrainedTokenizerFast

    pad, unknown, first, last = BERT_PIECES
    vocabulary = {piece: index for index, piece in enumerate((*BERT_PIECES, *pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing((last, 3), (first, 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, cls_token=first, sep_token=last
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=positions,
    )
    _write(folder, "BertModel", config)
    return folder


def write_roberta(folder: Path, texts: Sequence[str], positions: int = 64) -> Path:
    """Write a RoBERTa with byte pairs learned from these texts; it has room for ``positions - 2`` pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, RobertaConfig

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    first, pad, last, unknown = special
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, cls_token=first, sep_token=last
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=positions,
    )
    _write(folder, "RobertaModel", config)
    return folder


def write_albert(folder: Path, texts: Sequence[str]) -> Path:
    """Write an ALBERT with pieces of SentencePiece's kind, learned from these texts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AlbertConfig, PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=special, unk_token=special[1], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    pad, unknown, first, last = special
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, cls_token=first, sep_token=last
    ).save_pretrained(folder)
    config = AlbertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        embedding_size=4,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    _write(folder, "AlbertModel", config)
    return folder


def write_speech_encoder(folder: Path, kind: str = "Wav2Vec2", **changes: Any) -> Path:
    """Write an encoder of speech: Wav2Vec2, Hubert, WavLM, SEW, Data2VecAudio."""
    import transformers

    given = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": (8,) * 7,
        "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
        "conv_stride": (5, 2, 2, 2, 2, 2, 2),
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    }
    _write(folder, f"{kind}Model", getattr(transformers, f"{kind}Config")(**given | changes))
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
