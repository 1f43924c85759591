from __future__ import annotations

from typing import Any

import pytest
from corpus import Corpus
from measure import ROUNDS, time_op
from setups import SEGMENTS


@pytest.mark.parametrize("backend", ROUNDS)
@pytest.mark.parametrize("op", SEGMENTS)
def test_segments(benchmark: Any, answers: Corpus, op: str, backend: str) -> None:
    time_op(benchmark, answers, op, SEGMENTS[op], backend)
