"""Small checkpoints of every architecture, made with transformers: random weights, each of which matters."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = """
i love this so much thank you for being here today it made me really happy and a little sad at the same time
what a terrible idea nobody should ever do that again he said angrily while she laughed and the others were quiet
wonderful news the results are in we won the whole thing can you believe it no way that is amazing congratulations
I'm sorry to hear that; it wasn't your fault, and they'll see that in 2024. Don't worry, be kind (to yourself)!
naïve café résumé Straße über 東京 大阪 привет мир 😀 🎉 don't can't won't it's
""".strip().split("\n")

TEXTS = [
    "I love this so much!",
    "",
    "What a TERRIBLE idea; nobody should ever do that again...",
    "Don't worry, it's 2024 \u2014 na\u00efve caf\u00e9 Stra\u00dfe \u6771\u4eac \u043f\u0440\u0438\u0432\u0435\u0442",
    "  two  spaces\tand\na line \U0001f600\U0001f389 unknown: \u0e01\u0e02 \u2603",
    "[CLS] literal <s> special </s> tokens [SEP] <pad> and [PAD] <mask> [MASK] <unk>",
    "congratulations " * 600,
    "x",
]
"""Texts that reach the parts of a tokenizer: case, marks, white space, ideographs, emoji, special tokens, length."""


def wordpiece() -> Tokenizer:
    """BERT's: lower case, no accents."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = _template(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


def byte_level(special: list[str], first: str, last: str) -> Tokenizer:
    """Byte-level BPE, as RoBERTa and ModernBERT have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        WORDS,
        trainers.BpeTrainer(
            vocab_size=380,
            special_tokens=[AddedToken(s, lstrip=s == "<mask>", special=True) for s in special],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (last, tokenizer.token_to_id(last)), (first, tokenizer.token_to_id(first)), add_prefix_space=False
    )
    return tokenizer


def unigram(special: list[str], unknown: str, first: str, last: str) -> Tokenizer:
    """SentencePiece's unigram model, as XLM-R and DeBERTa v3 have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        WORDS,
        trainers.UnigramTrainer(vocab_size=250, special_tokens=special, unk_token=unknown, show_progress=False),
    )
    tokenizer.post_processor = _template(tokenizer, first, last)
    return tokenizer


def _template(tokenizer: Tokenizer, first: str, last: str) -> Any:
    return processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(s, tokenizer.token_to_id(s)) for s in (first, last)],
    )


_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_BERT = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
_SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}


def tokenizers() -> dict[str, Callable[[], Tokenizer]]:
    return {
        "wordpiece": wordpiece,
        "roberta": lambda: byte_level(_ROBERTA, "<s>", "</s>"),
        "modernbert": lambda: byte_level(_BERT, "[CLS]", "[SEP]"),
        "xlm-roberta": lambda: unigram(_ROBERTA, "<unk>", "<s>", "</s>"),
        "deberta": lambda: unigram(_BERT, "[UNK]", "[CLS]", "[SEP]"),
    }


def _configs() -> dict[str, tuple[type, str, dict[str, Any]]]:
    """Name: class of the configuration, tokenizer, settings."""
    t = transformers
    roberta = {**_SIZES, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    deberta = {**_SIZES, "relative_attention": True, "max_position_embeddings": 512}
    modern = {
        **_SIZES,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "local_attention": 24,
        "max_position_embeddings": 1024,
        **{f"{name}_token_id": at for at, name in enumerate(("pad", "cls", "sep"))},
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return {
        "bert": (t.BertConfig, "wordpiece", {**_SIZES, "hidden_act": "gelu_new"}),
        "distilbert": (
            t.DistilBertConfig,
            "wordpiece",
            {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 128},
        ),
        "roberta": (t.RobertaConfig, "roberta", roberta),
        "xlm-roberta": (t.XLMRobertaConfig, "xlm-roberta", roberta),
        "electra": (t.ElectraConfig, "wordpiece", {**_SIZES, "embedding_size": 32, "num_attention_heads": 2}),
        "deberta-v3": (
            t.DebertaV2Config,
            "deberta",
            {
                **deberta,
                "position_buckets": 32,
                "norm_rel_ebd": "layer_norm",
                "share_att_key": True,
                "pos_att_type": ["p2c", "c2p"],
                "max_relative_positions": -1,
                "position_biased_input": False,
                "type_vocab_size": 0,
            },
        ),
        # Every other path of the architecture: projections of their own, short distances, absolute positions, types.
        "deberta-v2": (
            t.DebertaV2Config,
            "deberta",
            {
                **deberta,
                "pos_att_type": "c2p|p2c",
                "max_relative_positions": 40,
                "position_biased_input": True,
                "embedding_size": 32,
                "type_vocab_size": 2,
            },
        ),
        "deberta-c2p": (
            t.DebertaV2Config,
            "deberta",
            {
                **deberta,
                "pos_att_type": ["c2p"],
                "share_att_key": True,
                "position_buckets": 16,
                "position_biased_input": False,
                "type_vocab_size": 2,
            },
        ),
        "modernbert": (t.ModernBertConfig, "modernbert", modern),
        "modernbert-mean": (
            t.ModernBertConfig,
            "modernbert",
            {
                **modern,
                "classifier_pooling": "mean",
                "norm_bias": True,
                "attention_bias": True,
                "mlp_bias": True,
                "classifier_bias": True,
                "hidden_activation": "silu",
            },
        ),
    }


NAMES = tuple(_configs())
"""Names of the checkpoints that `made` makes."""


@lru_cache(maxsize=1)
def folder() -> Path:
    """Return a folder for this process, removed at its end."""
    path = Path(tempfile.mkdtemp(prefix="affectcore-checkpoints-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@lru_cache(maxsize=1)
def _quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)


@cache
def fast_tokenizer(name: str) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of `tokenizers`, with the limit of 512 tokens."""
    _quiet()
    tokenizer = tokenizers()[name]()
    known = tokenizer.get_vocab(with_added_tokens=True)
    pad = "<pad>" if "<pad>" in known else "[PAD]"
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, model_max_length=512)


def randomize(model: Any, seed: int) -> None:
    """Give a model weights of which each matters, and logits of order 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim > 1:
                # Rows of a table as long as what is added to them; other outputs as large as their inputs.
                p.copy_(noise * 0.7 if "embeddings" in name and "proj" not in name else noise / p.shape[1] ** 0.5)
            else:
                p.copy_(noise * 0.1 + float("norm" in name.lower() and name.endswith("weight")))


@cache
def made(name: str, labels: int = 5, problem: str | None = None) -> Path:
    """Return the directory of a checkpoint from `NAMES`; do not write to it."""
    kind, tokenizer, settings = _configs()[name]
    fast = fast_tokenizer(tokenizer)
    model = transformers.AutoModelForSequenceClassification.from_config(
        kind(**settings, vocab_size=len(fast), num_labels=labels, problem_type=problem)
    )
    randomize(model, len(name))
    path = folder() / f"{name}-{labels}-{problem}"
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


def loaded(path: Path) -> Any:
    """Return a checkpoint as transformers runs it: eager, in float32."""
    _quiet()
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    return load(path, attn_implementation="eager").float().eval()


def logits(model: Any, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return transformers' logits of packed sequences, float32 (n, k), from one padded batch."""
    counts = np.diff(offsets)
    rows = torch.full((len(counts), int(counts.max())), int(model.config.pad_token_id or 0))
    mask = torch.zeros_like(rows)
    for row, (begin, n) in enumerate(zip(offsets[:-1], counts)):
        rows[row, :n] = torch.from_numpy(ids[begin : begin + n].astype(np.int64))
        mask[row, :n] = 1
    with torch.inference_mode():
        return np.asarray(model(input_ids=rows, attention_mask=mask).logits.float())
