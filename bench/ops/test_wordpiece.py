from __future__ import annotations

from functools import partial
from typing import Any

import peers
import pytest
from corpus import Corpus
from measure import REFERENCE_BYTES, Contender, alternate
from setups import tokens

from affectcore.models.base import EMBEDDED

ROUNDS = 5
PEER = "tokenizers encode_batch_fast, 2 threads"


def test_wordpiece(benchmark: Any, answers: Corpus) -> None:
    pytest.importorskip("tokenizers")
    folder = EMBEDDED / "static"
    size = answers.n_bytes, len(answers)
    sample = answers.sample(REFERENCE_BYTES)
    contenders = [
        Contender("wordpiece, numba, 2 threads", tokens(answers.array, "numba", folder, 2), *size, versus=[PEER]),
        Contender("wordpiece, numba, 1 thread", tokens(answers.array, "numba", folder), *size, versus=[PEER]),
        Contender(PEER, partial(peers.tokenizers(folder), answers.texts), *size),
        Contender(
            "wordpiece, reference",
            tokens(sample.array, "reference", folder),
            sample.n_bytes,
            len(sample),
            once=True,
        ),
    ]
    alternate(benchmark, "Tokens", contenders, ROUNDS)
