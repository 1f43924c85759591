from __future__ import annotations

from typing import Any

import pytest
from corpus import Corpus
from measure import ROUNDS, time_op
from setups import DYNAMICS


@pytest.mark.parametrize("backend", ROUNDS)
@pytest.mark.parametrize("op", DYNAMICS)
def test_dynamics(benchmark: Any, answers: Corpus, op: str, backend: str) -> None:
    time_op(benchmark, answers, op, DYNAMICS[op], backend)
