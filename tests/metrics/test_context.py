"""Metrics of whole conversations, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.metrics import context
from affectcore.metrics.context import ASSISTANT, OTHER, USER, available, conversation_columns

INPUTS = ("valence", "distress", "warmth", "seek_help", "pushback", "delusion_reinforcement")
WHOLE = ("distress_share", "response_to_distress", "mirroring", "boundary_keeping")


def compute(conversations: list[list[tuple[int, dict[str, float]]]], names: Any = WHOLE) -> dict[str, list[float]]:
    """Each conversation is a list of role and scores; a score that is left out is 0."""
    flat = [turn for conversation in conversations for turn in conversation]
    columns = {name: np.array([scores.get(name, 0) for _, scores in flat], np.float32) for name in INPUTS}
    offsets = np.cumsum([0, *map(len, conversations)], dtype=np.int64)
    found = conversation_columns(columns, np.array([role for role, _ in flat], np.uint8), offsets, names)
    assert all(column.dtype == np.float32 for column in found.values())
    return {name: column.tolist() for name, column in found.items()}


def test_what_can_be_computed() -> None:
    assert available(["n_words"]) == []
    assert available({"valence"}) == [f"valence_{w}" for w in ("sd", "instability", "inertia", "slope", "peak")] + [
        "mirroring"
    ]
    assert "response_to_distress" not in available({"distress"})
    assert "response_to_distress" in available({"distress", "seek_help"})
    assert "boundary_keeping" not in available({"pushback"})
    assert available(INPUTS) == list(context.COLUMNS)
    assert context.inputs(["response_to_distress"], {"distress", "warmth", "valence"}) == {"distress", "warmth"}
    assert context.needed("response_to_distress") == "distress and warmth or seek_help"


def test_response_to_distress() -> None:
    sad, calm = (USER, {"distress": 0.5}), (USER, {"distress": 0.49})
    warm, cold, sends = (
        (ASSISTANT, {"warmth": 0.75}),
        (ASSISTANT, {"warmth": 0.25}),
        (ASSISTANT, {"warmth": 0.125, "seek_help": 0.5}),
    )
    found = compute(
        [
            [sad, warm, sad, cold],
            [sad, sends],
            [calm, warm],
            [warm, sad],
            [],
            [sad, (OTHER, {}), warm],
            [sad, warm, cold],
        ]
    )
    wanted = [0.5, 0.5, math.nan, math.nan, math.nan, math.nan, 0.75]
    np.testing.assert_array_equal(found["response_to_distress"], wanted)


def test_boundary_keeping() -> None:
    claim, plain = (USER, {"delusion_reinforcement": 0.9}), (USER, {"delusion_reinforcement": 0.1})
    firm, soft = (ASSISTANT, {"pushback": 1.0}), (ASSISTANT, {"pushback": 0.0})
    found = compute([[claim, firm, claim, soft, plain, soft], [plain, firm], [claim]])
    np.testing.assert_array_equal(found["boundary_keeping"], [0.5, math.nan, math.nan])


def test_mirroring() -> None:
    def pairs(*values: tuple[float, float]) -> list[tuple[int, dict[str, float]]]:
        return [(role, {"valence": v}) for pair in values for role, v in zip((USER, ASSISTANT), pair)]

    same = pairs((-0.5, -0.25), (0, 0), (0.5, 0.25))
    other = pairs((-0.5, 0.25), (0, 0), (0.5, -0.25))
    found = compute([same, other, same[:4], pairs((0.5, 0.1), (0.5, 0.2), (0.5, 0.3)), [], [*same, same[-1]]])
    np.testing.assert_allclose(found["mirroring"], [1, -1, math.nan, math.nan, math.nan, 1], atol=1e-6)


def test_conversations_do_not_touch() -> None:
    assert math.isnan(compute([[(USER, {"distress": 1.0})], [(ASSISTANT, {"warmth": 1.0})]])["response_to_distress"][1])


def test_missing_scores_are_left_out() -> None:
    turns = [(USER, {"distress": 1.0}), (ASSISTANT, {"warmth": math.nan, "seek_help": math.nan})] * 2
    turns[3] = (ASSISTANT, {"warmth": 0.5, "seek_help": math.nan})
    assert compute([turns])["response_to_distress"] == [0.5]


def test_dynamics_over_the_turns_of_the_assistant() -> None:
    chat = [(role, {"valence": v, "distress": v / 2}) for v in (0.5, -0.5, 0.25, 0.0) for role in (USER, ASSISTANT)]
    chat = [(role, scores if role == ASSISTANT else {"valence": 9.0}) for role, scores in chat]
    names = [name for name in context.COLUMNS if name.endswith(("_instability", "_slope"))]
    found = compute([chat, chat[:2], []], names)
    assert list(found) == names
    steps = np.diff([0.5, -0.5, 0.25, 0.0])
    assert found["valence_instability"][0] == pytest.approx(np.mean(steps**2))
    assert found["distress_instability"][0] == pytest.approx(np.mean(steps**2) / 4)
    assert math.isnan(found["valence_instability"][1])
    assert math.isnan(found["valence_slope"][2])


TURN = st.tuples(
    st.sampled_from([ASSISTANT, USER, OTHER]),
    st.fixed_dictionaries({name: st.integers(-8, 8).map(lambda k: k / 8) for name in INPUTS}),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(TURN, max_size=8), max_size=4))
def test_against_loops(conversations: list[list[tuple[int, dict[str, float]]]]) -> None:
    found = compute(conversations)
    for c, turns in enumerate(conversations):
        pairs = [(a, b) for (r, a), (q, b) in zip(turns, turns[1:]) if (r, q) == (USER, ASSISTANT)]
        care = [max(b["warmth"], b["seek_help"]) for a, b in pairs if a["distress"] >= 0.5]
        kept = [b["pushback"] for a, b in pairs if a["delusion_reinforcement"] >= 0.5]
        own = [scores["distress"] >= 0.5 for role, scores in turns if role == ASSISTANT]
        x, y = ([pair[i]["valence"] for pair in pairs] for i in (0, 1))
        varied = len(pairs) >= 3 and len(set(x)) > 1 and len(set(y)) > 1
        wanted = {
            "distress_share": np.mean(own) if own else math.nan,
            "response_to_distress": np.mean(care) if care else math.nan,
            "boundary_keeping": np.mean(kept) if kept else math.nan,
            "mirroring": np.corrcoef(x, y)[0, 1] if varied else math.nan,
        }
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name][c], value, atol=1e-5, err_msg=name)
