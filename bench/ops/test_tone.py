from __future__ import annotations

from typing import Any

import pytest
from corpus import Corpus
from measure import Contender, alternate
from setups import TONE

ROUNDS = {"numba": 20, "reference": 3}
REFERENCE_BYTES = 200_000


@pytest.mark.parametrize("backend", ROUNDS)
@pytest.mark.parametrize("op", TONE)
def test_tone(benchmark: Any, answers: Corpus, op: str, backend: str) -> None:
    texts = answers if backend == "numba" else answers.sample(REFERENCE_BYTES)
    call = TONE[op](texts.array, backend)
    alternate(benchmark, "Ops", [Contender(f"{op}, {backend}", call, texts.n_bytes, len(texts))], ROUNDS[backend])
