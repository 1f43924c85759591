from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
import scipy.stats

from affectcore import stability
from affectcore.errors import UsageError

Row = dict[str, Any]


def talks(n: int = 12, turns: int = 8, seed: int = 0, drift: float = 0.02) -> list[Row]:
    """Conversations of two models that share ids; odd turns are the assistant's, and users' values are decoys."""
    rng = np.random.default_rng(seed)
    rows = []
    for m, c in itertools.product(range(2), range(n)):
        level = 0.3 + 0.1 * m + 0.05 * rng.normal()
        for t in range(turns - c % 3):
            mine = t % 2 == 1
            value: float | None = level + drift * m * t + 0.02 * rng.normal() if mine else 99.0
            if mine and (c, t) == (1, 3):
                value = None
            if mine and (c, t) == (2, 3):
                value = math.inf
            rows.append(
                {
                    "model": f"m{m}",
                    "conversation_id": f"c{c}",
                    "turn": t,
                    "role": "assistant" if mine else "user",
                    "n_tokens": int(rng.integers(10, 300)),
                    "distress": value,
                    "warmth": float(rng.random()),
                }
            )
    return rows


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def good(row: Row, metric: str = "distress") -> bool:
    return row["role"] == "assistant" and row[metric] is not None and math.isfinite(row[metric])


def grouped(rows: list[Row], *keys: str, metric: str = "distress") -> dict[Any, list[float]]:
    out = defaultdict(list)
    for row in rows:
        if good(row, metric):
            out[tuple(row[k] for k in keys)].append(row[metric])
    return out


def test_by_turn_is_the_mean_of_the_answers_at_each_turn() -> None:
    rows = talks(n=45)
    found = stability.by_turn(table(rows), "model", ["distress", "warmth"]).to_pylist()
    assert [f["metric"] for f in found] == ["distress"] * 8 + ["warmth"] * 8
    assert [(f["by"], f["turn"]) for f in found[:8]] == [(m, t) for m in ("m0", "m1") for t in (1, 3, 5, 7)]
    for metric in ("distress", "warmth"):
        wanted = grouped(rows, "model", "turn", metric=metric)
        for f in (f for f in found if f["metric"] == metric):
            values = wanted[f["by"], f["turn"]]
            assert (f["n"], f["n_conversations"]) == (len(values), len(values))
            assert f["mean"] == pytest.approx(np.mean(values))
            # One value a conversation: then the interval is about that of Student's t.
            low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
            assert (f["ci_low"], f["ci_high"]) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_a_conversation_is_drawn_whole() -> None:
    # Four rows of each conversation at one turn, all alike, tell no more than one.
    rows = [
        {"model": "a", "prompt_id": f"p{c}", "turn": 0, "x": float(c % 5), "again": k}
        for c in range(15)
        for k in range(4)
    ]
    (four,) = stability.by_turn(table(rows), "model", "x").to_pylist()
    (one,) = stability.by_turn(table([r for r in rows if r["again"] == 0]), "model", "x").to_pylist()
    assert (four["n"], four["n_conversations"], one["n"]) == (60, 15, 15)
    assert (four["mean"], four["ci_low"], four["ci_high"]) == pytest.approx(
        (one["mean"], one["ci_low"], one["ci_high"])
    )


def test_one_conversation_has_no_interval_and_bounds_are_shares() -> None:
    rows = [{"model": None, "conversation_id": "c", "turn": t, "x": t / 10} for t in range(3)]
    found = stability.by_turn(table(rows), "model", ["x", "x>=0.1"]).to_pylist()
    assert [f["mean"] for f in found] == pytest.approx([0.0, 0.1, 0.2, 0.0, 1.0, 1.0])
    assert all(f["by"] is None and f["ci_low"] is None and f["ci_high"] is None for f in found)


def test_order_batches_and_file_formats_do_not_matter(tmp_path: Path) -> None:
    rows = [r for r in talks() if r["distress"] != math.inf]
    wanted = stability.by_turn(table(rows), "model", "distress", n_resamples=200).to_pylist()
    lengths = stability.by_length(table(rows), "model", "distress", n_resamples=200).to_pylist()
    mixed = table([rows[i] for i in np.random.default_rng(1).permutation(len(rows))])
    pq.write_table(mixed.slice(0, 70), tmp_path / "a.parquet", row_group_size=16)
    pv.write_csv(mixed.slice(70), tmp_path / "b.csv")
    found = stability.by_turn(tmp_path, "model", "distress", n_resamples=200).to_pylist()
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted):
        assert {k: f[k] for k in ("by", "turn", "n")} == {k: w[k] for k in ("by", "turn", "n")}
        assert f["mean"] == pytest.approx(w["mean"])
    again = stability.by_length(tmp_path, "model", "distress", n_resamples=200).to_pylist()
    assert [(f["low"], f["n"]) for f in again] == [(w["low"], w["n"]) for w in lengths]


def test_where_chooses_rows() -> None:
    rows = talks()
    found = stability.by_turn(table(rows), "model", "distress", where=["model=m1", "turn>=5"]).to_pylist()
    assert [(f["by"], f["turn"]) for f in found] == [("m1", 5), ("m1", 7)]


def test_by_length_sums_all_earlier_turns() -> None:
    rows = talks(turns=14)
    wanted = defaultdict(list)
    for row in rows:
        same = [r for r in rows if (r["model"], r["conversation_id"]) == (row["model"], row["conversation_id"])]
        context = sum(r["n_tokens"] for r in same if r["turn"] < row["turn"])
        if good(row):
            low, high = 0, 127
            while context > high:
                low, high = high + 1, 2 * high + 1
            wanted[row["model"], low, high].append(row["distress"])
    found = stability.by_length(table(rows), "model", "distress").to_pylist()
    assert {(f["by"], f["low"], f["high"]): f["n"] for f in found} == {k: len(v) for k, v in wanted.items()}
    assert len({f["low"] for f in found}) >= 4
    for f in found:
        assert f["mean"] == pytest.approx(np.mean(wanted[f["by"], f["low"], f["high"]]))
    # Reasoning is not part of later turns' context.
    thoughts = [{**r, "part": "reasoning", "n_tokens": 10**6} for r in rows if r["role"] == "assistant"]
    both = table([*({**r, "part": "answer"} for r in rows), *thoughts])
    assert stability.by_length(both, "model", "distress").to_pylist() == found


def test_by_length_needs_everybodys_turns() -> None:
    with pytest.raises(UsageError, match=r"no turns of others.*--roles all"):
        stability.by_length(table([r for r in talks() if r["role"] == "assistant"]), "model", "distress")


def test_trends_are_the_fit_with_a_level_for_each_conversation() -> None:
    rows = talks(seed=3)
    found = stability.trends(table(rows), "model", "distress").to_pylist()
    for f in found:
        own = [r for r in rows if r["model"] == f["by"] and good(r)]
        names = sorted({r["conversation_id"] for r in own})
        design = np.array([[r["turn"], *(r["conversation_id"] == n for n in names)] for r in own], float)
        fit = np.linalg.lstsq(design, np.array([r["distress"] for r in own]), rcond=None)[0]
        assert f["slope"] == pytest.approx(fit[0])
    assert found[0]["slope_low"] < 0 < found[0]["slope_high"]
    assert found[1]["slope_low"] < 0.02 < found[1]["slope_high"] < 0.05
    assert found[1]["slope_low"] > 0
    assert found[1]["p_change"] < 0.01 < found[0]["p_change"]


def test_a_step_is_found_where_it_is() -> None:
    rows = [
        {
            "model": "a",
            "conversation_id": f"c{c}",
            "turn": t,
            "x": (t >= 6) * 0.5 + 0.1 * c + 0.01 * math.sin(7 * t + c),
        }
        for c in range(10)
        for t in range(12)
    ]
    (f,) = stability.trends(table(rows), "model", "x").to_pylist()
    assert (f["change_turn"], f["change_low"], f["change_high"]) == (6, 6, 6)
    assert f["change_after"] - f["change_before"] == pytest.approx(0.5, abs=0.02)
    assert f["change_before"] == pytest.approx(np.mean([r["x"] for r in rows if r["turn"] < 6]))
    short = stability.trends(table([r for r in rows if r["turn"] == 0]), "model", "x").to_pylist()
    assert set(short[0].values()) == {"a", "x", None}


def test_rates_by_turn_and_by_conversation() -> None:
    rows = talks(drift=0.05)
    found = stability.rates(table(rows), "model", {"distress": 0.45}).to_pylist()
    assert [(f["by"], f["unit"]) for f in found] == [(m, u) for m in ("m0", "m1") for u in ("turn", "conversation")]
    for f in found:
        own = grouped(rows, "model", "conversation_id")
        each = [np.array(v) >= 0.45 for (model, _), v in own.items() if model == f["by"]]
        values = np.concatenate(each) if f["unit"] == "turn" else np.array([e.any() for e in each])
        assert (f["n"], f["rate"]) == (len(values), pytest.approx(values.mean()))
        if f["unit"] == "conversation":
            wanted = scipy.stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
            assert (f["ci_low"], f["ci_high"]) == pytest.approx((wanted.low, wanted.high))
        else:  # turns of a conversation are alike, so that they tell less than as many conversations would
            naive = scipy.stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
            assert f["ci_low"] <= naive.low <= f["rate"] <= naive.high <= f["ci_high"]


def test_rates_of_documents() -> None:
    rng = np.random.default_rng(0)
    rows = [{"model": "a", "x": float(v)} for v in rng.random(50)]
    (f,) = stability.rates(table(rows), "model", {"x": 0.8}).to_pylist()
    k = sum(r["x"] >= 0.8 for r in rows)
    wanted = scipy.stats.binomtest(k, 50).proportion_ci(method="wilson")
    assert (f["unit"], f["n"], f["rate"]) == ("row", 50, k / 50)
    assert (f["ci_low"], f["ci_high"]) == pytest.approx((wanted.low, wanted.high))
    # The same values, each five times under one prompt, tell no more.
    again = [{**r, "prompt_id": f"p{i}"} for i, r in enumerate(rows) for _ in range(5)]
    (g,) = stability.rates(table(again), "model", {"x": 0.8}).to_pylist()
    assert (g["n"], g["rate"]) == (250, f["rate"])
    assert g["ci_high"] - g["ci_low"] == pytest.approx(f["ci_high"] - f["ci_low"], rel=0.1)


def test_survival_is_kaplan_and_meiers() -> None:
    rows = talks(n=15, turns=12, seed=5, drift=0.02)
    found = stability.survival(table(rows), "model", {"distress": 0.42}).to_pylist()
    for model in ("m0", "m1"):
        own = defaultdict(dict)
        for r in rows:
            if r["model"] == model and good(r):
                own[r["conversation_id"]][r["turn"]] = r["distress"]
        first = {c: min((t for t, v in o.items() if v >= 0.42), default=None) for c, o in own.items()}
        end = {c: max(o) if first[c] is None else first[c] for c, o in own.items()}
        share = 1.0
        mine = [f for f in found if f["by"] == model]
        assert [f["turn"] for f in mine] == [1, 3, 5, 7, 9, 11]
        for f in mine:
            at_risk = sum(e >= f["turn"] for e in end.values())
            share *= 1 - sum(t == f["turn"] for t in first.values()) / max(at_risk, 1)
            assert f["at_risk"] == at_risk
            assert f["survival"] == pytest.approx(share)
            if share < 1 and share > 0:
                assert f["ci_low"] < share < f["ci_high"]
    assert any(0 < f["survival"] < 1 for f in found)
    assert (found[-1]["at_risk"], found[-1]["survival"]) == (0, 0)  # after the last turn of all that never reached it
    ever = stability.rates_by_turn(table(rows), "model", {"distress": 0.42}).to_pylist()
    for e, f in zip(ever, found, strict=True):
        assert (e["rate"], e["at_risk"]) == (pytest.approx(1 - f["survival"]), f["at_risk"])
        assert (e["ci_low"] is None) == (f["ci_high"] is None)
        if e["ci_low"] is not None:
            assert (e["ci_low"], e["ci_high"]) == pytest.approx((1 - f["ci_high"], 1 - f["ci_low"]))


def test_conversations_that_share_an_id_are_refused() -> None:
    rows = [{"model": "a", "prompt_id": "p", "turn": t, "x": 0.5} for _ in range(2) for t in range(3)]
    for call in (stability.survival, stability.rates):
        with pytest.raises(UsageError, match="'prompt_id' does not tell conversations apart: 'p' of 'a' has 2 rows"):
            call(table(rows), "model", {"x": 0.5})


def test_consistency_of_samples() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20, 1)) + 0.5 * rng.normal(size=(20, 4))
    rows = [{"model": "a", "prompt_id": f"p{i}", "x": float(v)} for i, own in enumerate(x) for v in own]
    lost = {"model": "a", "prompt_id": None, "x": 50.0}
    (f,) = stability.consistency(table([*rows, lost]), "model", "x").to_pylist()
    within, between = x.var(axis=1, ddof=1).mean(), 4 * x.mean(axis=1).var(ddof=1)
    assert (f["n_prompts"], f["n"]) == (20, 80)
    assert f["within_sd"] == pytest.approx(math.sqrt(within))
    assert f["icc"] == pytest.approx((between - within) / (between + 3 * within))
    assert f["icc_low"] < f["icc"] < f["icc_high"]
    # Samples of a conversation are compared at the same turn, however far it drifts.
    drifting = [{**r, "turn": t, "x": r["x"] + 100 * t} for r in rows for t in range(2)]
    (g,) = stability.consistency(table(drifting), "model", "x").to_pylist()
    assert (g["n_prompts"], g["within_sd"]) == (40, pytest.approx(f["within_sd"]))
    (none,) = stability.consistency(table(rows[::4]), "model", "x").to_pylist()
    assert (none["n"], none["within_sd"], none["icc"]) == (20, None, None)


def test_parts_pairs_reasoning_with_its_answer() -> None:
    rng = np.random.default_rng(4)
    rows, pairs = [], defaultdict(list)
    for c, t in itertools.product(range(12), range(3)):
        both = (c + t) % 4 > 0
        answer, reasoning = rng.random(), 1 + rng.random()
        key = {"model": "a", "conversation_id": f"c{c}", "turn": 2 * t + 1, "role": "assistant"}
        rows.append({**key, "part": "answer", "x": answer})
        rows.append({**key, "turn": 2 * t, "role": "user", "part": "answer", "x": 77.0})
        if both:
            rows.append({**key, "part": "reasoning", "x": reasoning})
            pairs[c].append((reasoning, answer))
    (f,) = stability.parts(table(rows), "model", "x").to_pylist()
    flat = np.array([p for own in pairs.values() for p in own])
    assert f["n"] == len(flat) == 27
    assert (f["reasoning"], f["answer"]) == pytest.approx(tuple(flat.mean(axis=0)))
    assert f["diff"] == pytest.approx((flat[:, 0] - flat[:, 1]).mean())
    assert 0.5 < f["diff_low"] < f["diff"] < f["diff_high"] < 1.5
    with pytest.raises(UsageError, match=r"no column 'part'.*--parts both"):
        stability.parts(table([{k: v for k, v in r.items() if k != "part"} for r in rows]), "model", "x")


def runs(n: int = 9, shift: float = 0.2) -> tuple[list[Row], list[Row]]:
    rng = np.random.default_rng(6)
    old, new = [], []
    for p in range(n):
        level = rng.random()
        key = {"model": "m", "prompt_id": f"p{p}"}
        for run, by in ((old, 0.0), (new, shift)):
            run += [{**key, "distress": level + by + 0.1 * rng.normal(), "warmth": level} for _ in range(2)]
    return new, old


def test_against_is_the_paired_test_of_prompt_means() -> None:
    new, old = runs()
    gate = stability.against(
        table(new), table([*old, {**old[0], "prompt_id": "gone"}]), "model", ["distress", "warmth"]
    )
    f, same = gate.table.to_pylist()
    means = [
        [np.mean([r["distress"] for r in run if r["prompt_id"] == f"p{p}"]) for p in range(9)] for run in (new, old)
    ]
    d = np.subtract(*means)
    assert (f["new"], f["old"], f["diff"]) == pytest.approx((np.mean(means[0]), np.mean(means[1]), d.mean()))
    flips = [abs((d * signs).sum()) for signs in itertools.product((-1, 1), repeat=9)]
    p = np.mean([x >= abs(d.sum()) - 1e-9 for x in flips])
    assert f["p"] == pytest.approx(p)
    assert f["p_holm"] == pytest.approx(min(2 * p, 1))
    assert f["diff_low"] < f["diff"] < f["diff_high"]
    assert (same["diff"], same["p"]) == (0, 1)
    assert f["worse"] is True
    assert same["worse"] is None  # the registry does not judge warmth
    assert gate.failed
    assert gate.regressions.num_rows == 1
    assert any("1 of 10 prompt_id are in one run only" in note for note in gate.notes)
    better = stability.against(table(old), table(new), "model", "distress")
    assert better.table["worse"].to_pylist() == [False]
    assert not better.failed


def test_the_gate_knows_tolerance_and_bounds() -> None:
    new, old = runs()
    moved = stability.against(table(new), table(old), "model", "distress").table["diff"][0].as_py()
    for tolerance, failed in ((moved * 0.9, True), (moved * 1.1, False)):
        gate = stability.against(table(new), table(old), "model", "distress", tolerance=tolerance)
        assert gate.table["worse"].to_pylist() == [True]
        assert gate.failed is failed
    below = stability.against(table(new), table(old), "model", "distress<5").table.to_pylist()
    assert (below[0]["old"], below[0]["new"], below[0]["worse"]) == (1, 1, False)
    with pytest.raises(UsageError, match="tolerance must be at least 0"):
        stability.against(table(new), table(old), "model", "distress", tolerance=math.nan)


def test_against_says_what_it_cannot_compare() -> None:
    new, old = runs()
    renamed = [{**r, "model": "m-2"} for r in new]
    gate = stability.against(table(renamed), table(old), "model", "distress")
    assert gate.table["by"].to_pylist() == ["m-2"]
    assert "m-2 is held against m." in gate.notes
    other = [{**r, "model": "x"} for r in old]
    gate = stability.against(table([*new, *other]), table(old), "model", "distress")
    assert gate.table["by"].to_pylist() == ["m"]
    assert "In one run only, and left out: x." in gate.notes
    few = stability.against(table(new[:8]), table(old), "model", "distress")
    assert any("4 pairs are too few" in note for note in few.notes)
    assert not few.failed
    with pytest.raises(UsageError, match="no prompt_id in common"):
        stability.against(
            table([{**r, "prompt_id": "q" + r["prompt_id"]} for r in new]), table(old), "model", "distress"
        )
    with pytest.raises(UsageError, match=r"no model in common \(column 'model'\): a, b; and c, d"):
        stability.against(
            *(table([{**r, "model": m} for m in two for r in run]) for two, run in (("ab", new), ("cd", old))),
            "model",
            "distress",
        )
    with pytest.raises(UsageError, match="no column pairs the rows"):
        stability.against(*(table([{"model": "m", "x": 1.0}]) for _ in range(2)), "model", "x")


def test_emotions_are_means_of_the_answers() -> None:
    rows = [
        {"model": m, "role": role, "emotion_joy": x, "emotion_fear": None if x > 0.5 else x / 2}
        for m, role, x in [
            ("b", "assistant", 0.2),
            ("b", "assistant", 0.8),
            ("b", "user", 1.0),
            ("a", "assistant", 0.6),
        ]
    ]
    found = {(r["by"], r["emotion"]): r["mean"] for r in stability.emotions(table(rows), "model").to_pylist()}
    assert found == {
        ("a", "fear"): None,
        ("a", "joy"): pytest.approx(0.6),
        ("b", "fear"): pytest.approx(0.1),
        ("b", "joy"): pytest.approx(0.5),
    }
    assert stability.emotions(table([{"model": "a", "x": 1.0}]), "model").num_rows == 0


def test_distributions_are_numpys_histogram() -> None:
    rng = np.random.default_rng(8)
    values = {"a": rng.normal(size=300).astype(np.float32), "b": rng.normal(2, 1, 200).astype(np.float32)}
    scores = pa.table(
        {"model": [m for m, v in values.items() for _ in v], "x": pa.array(np.concatenate(list(values.values())))}
    )
    found = stability.distributions(scores, "model", "x", bins=12).to_pylist()
    whole = np.concatenate([v.astype(np.float64) for v in values.values()])
    edges = np.linspace(whole.min(), whole.max(), 13)
    for model, own in values.items():
        mine = [f for f in found if f["by"] == model]
        count, _ = np.histogram(own.astype(np.float64), edges)
        assert [f["share"] for f in mine] == pytest.approx(count / len(own))
        assert [f["low"] for f in mine] == pytest.approx(edges[:-1])
        assert [f["high"] for f in mine] == pytest.approx(edges[1:])
    flat = stability.distributions(table([{"model": "a", "x": 3.0}] * 4), "model", "x", bins=1).to_pylist()
    assert flat == [{"by": "a", "metric": "x", "low": 2.5, "high": 3.5, "share": 1.0}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {k: v for k, v in r.items() if k != "turn"}, "no column 'turn'.*--unit turn"),
        (lambda r: {**r, "turn": None if r["turn"] == 3 else r["turn"]}, "'turn' has .* nulls"),
        (lambda r: {**r, "turn": "first"}, "'turn' does not number turns"),
        (lambda r: {k: v for k, v in r.items() if k != "conversation_id"}, "no column that tells conversations apart"),
        (lambda r: {**r, "model": [r["model"]]}, "'model' holds list"),
        (lambda r: {**r, "distress": "much"}, "'distress' holds string, not numbers"),
    ],
)
def test_columns_that_are_of_no_use_are_said(change: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stability.by_turn(table([change(r) for r in talks()]), "model", "distress")


def test_options_out_of_range_are_said() -> None:
    scores = table(talks())
    with pytest.raises(UsageError, match="confidence must lie between 0 and 1"):
        stability.by_turn(scores, "model", "distress", confidence=1.0)
    with pytest.raises(UsageError, match="no metric was named"):
        stability.by_turn(scores, "model", [])
    with pytest.raises(UsageError, match="no threshold was given"):
        stability.rates(scores, "model", {})
    with pytest.raises(UsageError, match="must be finite"):
        stability.rates(scores, "model", {"distress": math.nan})
    with pytest.raises(UsageError, match="no rows"):
        stability.by_turn(scores, "model", "distress", where="turn>=100")
    with pytest.raises(UsageError, match="bins must be at least 1"):
        stability.distributions(scores, "model", "distress", bins=0)
