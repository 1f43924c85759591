from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from texts import data
from typer.testing import CliRunner

from affectcore.cli.main import app, main
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE, InputError, UsageError
from affectcore.exams import eqbench

NAMES = ("Calm", "Bitter", "Proud", "Tired")
ZERO = dict.fromkeys(NAMES, 0.0)


def ratings(*values: float, names: tuple[str, ...] = NAMES) -> str:
    return "\n".join(f"{name}: {value}" for name, value in zip(names, values))


def revised(first: str, second: str) -> str:
    return f"First pass scores:\n{first}\n\nCritique: I wavered.\n\nRevised scores:\n{second}\n\n[End of answer]"


def answers(*rows: tuple[str, int | str, str | None], **more: object) -> pa.Table:
    return pa.Table.from_pylist([{"model": m, "question_id": q, "answer": a, **more} for m, q, a in rows])


def key(n: int, reference: dict[str, float] = ZERO) -> dict[str, dict[str, float]]:
    return {str(i): reference for i in range(n)}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    entry = {}
    for i, name in enumerate(NAMES, 1):
        entry |= {f"emotion{i}": name, f"emotion{i}_score": "0"}
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({str(i): {"prompt": "?", "reference_answer_fullscale": entry} for i in range(3)}))
    return path


def result_file(path: Path, iterations: dict[str, dict[str, str]], **more: object) -> Path:
    content = {"model_path": "maker/a", "eqbench_version": "v2", "benchmark_score": 50.0, **more}
    content["raw_results"] = {number: {"raw_inference": texts} for number, texts in iterations.items()}
    path.write_text(json.dumps(content))
    return path


# The score of a question


@pytest.mark.parametrize(
    ("values", "loss"),
    [
        ((0, 0, 0, 0), 0.0),
        ((4, 0, 0, 0), 6.5 / 2),  # the middle of the curve
        ((5, 0, 0, 0), 6.5 * math.exp(1.2) / (1 + math.exp(1.2))),
        ((6, 0, 0, 0), 6.0),  # from here on one to one
        ((10, 10, 10, 10), 40.0),
        ((1, 7, 0, 0), 6.5 / (1 + math.exp(3.6)) + 7),
    ],
)
def test_question_score_is_the_published_formula(values: tuple[int, ...], loss: float) -> None:
    assert eqbench.question_score(dict(zip(NAMES, values)), ZERO) == pytest.approx(10 - 0.7477 * loss, abs=1e-12)


def test_a_question_needs_exactly_its_four_emotions() -> None:
    assert eqbench.question_score({"Calm": 1.0, "Bitter": 0.0, "Proud": 0.0}, ZERO) is None
    assert eqbench.question_score({**ZERO, "Angry": 3.0}, ZERO) is None


def test_a_distance_counts_in_both_directions() -> None:
    high = dict.fromkeys(NAMES, 8.0)
    assert eqbench.question_score(high, ZERO) == eqbench.question_score(ZERO, high)


# Parsing


def test_parse_tells_the_passes_apart() -> None:
    first, second = eqbench.parse(revised(ratings(1, 2, 3, 4), ratings(5, 6, 7, 8)), NAMES)
    assert list(first.values()) == [1, 2, 3, 4]
    assert list(second.values()) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ratings(1, 2, 3, 4), [1, 2, 3, 4]),
        ("Calm: 1 Bitter: 2 Proud: 3 Tired: 4", [1, 2, 3, 4]),
        (ratings(1, 2, 3, 4) + "\nConfidence: 8", [1, 2, 3, 4]),
        (ratings(1, 2, 3, 4) + "\n\nOn second thoughts, Calm: 9", [9, 2, 3, 4]),  # the last one counts
        ("<think>Revised scores:\n" + ratings(9, 9, 9, 9) + "</think>" + ratings(1, 2, 3, 4), [1, 2, 3, 4]),
        ("First pass scores:\n" + ratings(1, 2, 3, 4), [1, 2, 3, 4]),
        ("calm: 1 Bitter:2 Proud 3", []),  # the pattern wants the name, a colon and a space
    ],
)
def test_parse_without_revision(text: str, expected: list[float]) -> None:
    first, second = eqbench.parse(text, NAMES)
    assert list(first.values()) == expected
    assert second == {}


def test_a_revision_without_its_first_pass_is_a_revision() -> None:
    assert eqbench.parse("Revised scores: Calm: 3", NAMES) == ({}, {"Calm": 3.0})


# The score of a run


def test_the_better_pass_counts_and_the_first_one_on_fewer_revisions() -> None:
    good, bad = ratings(0, 0, 0, 0), ratings(6, 0, 0, 0)
    loss = 10 * 0.7477 * 6
    rows = [("up", i, revised(bad, good)) for i in range(20)] + [("down", i, revised(good, bad)) for i in range(20)]
    # 19 of 20 revised are just enough, 18 are too few.
    rows += [("enough", i, revised(bad, good if i else "none")) for i in range(20)]
    rows += [("too few", i, revised(bad, good if i > 1 else "none")) for i in range(20)]
    scores = eqbench.score(answers(*rows), key(20))
    found = {row["model"]: (row["score"], row["n_parseable"]) for row in scores.table.to_pylist()}
    assert found["up"] == found["down"] == (100, 20)
    assert found["enough"] == (100, 19)
    assert found["too few"] == (pytest.approx(100 - loss), 20)
    counts = {row["model"]: row["counts"] for row in scores.iterations.to_pylist()}
    assert counts == {"up": "revised", "down": "first_pass", "enough": "revised", "too few": "first_pass"}


def test_iterations_are_scored_each_and_averaged(tmp_path: Path, questions: Path) -> None:
    good, bad = ratings(0, 0, 0, 0), ratings(6, 6, 6, 6)
    path = result_file(tmp_path / "a.json", {"1": dict.fromkeys("012", good), "2": dict.fromkeys("01", bad)})
    scores = eqbench.score(path, questions)
    (row,) = scores.table.to_pylist()
    worst = 100 - 10 * 0.7477 * 24
    assert [r["score"] for r in scores.iterations.to_pylist()] == pytest.approx([100, worst])
    assert row["score"] == pytest.approx((100 + worst) / 2)
    assert (row["n_iterations"], row["n_parseable"], row["n_missing"], row["published"]) == (2, 2.5, 1, 50.0)


def test_nothing_is_dropped_silently() -> None:
    good = ratings(0, 0, 0, 0)
    table = answers(("a", 0, good), ("a", 0, ratings(9, 9, 9, 9)), ("a", 1, "Calm: 3"), ("a", 77, good), ("a", 2, None))
    scores = eqbench.score(table, key(4))
    (row,) = scores.table.to_pylist()
    assert {name: row[f"n_{name}"] for name in ("unparseable", "missing", "duplicate", "unknown")} == {
        "unparseable": 2,
        "missing": 1,
        "duplicate": 1,
        "unknown": 1,
    }
    assert row["score"] == 100  # the first of two answers counts
    assert row["valid"] is False
    assert scores.n_left_out == 2
    status = {(r["question_id"], r["status"]): r["detail"] for r in scores.questions.to_pylist()}
    assert status["1", "unparseable"] == "first_pass rates no Bitter, Proud, Tired"
    assert status["2", "unparseable"] == "empty answer"
    assert {("0", "scored"), ("0", "duplicate"), ("77", "unknown"), ("3", "missing")} <= set(status)
    notes = " ".join(scores.notes)
    for part in (
        "2 answers without ratings",
        "1 question without an answer",
        "first counts",
        "Not in the key: 77",
        "!",
    ):
        assert part in notes


@pytest.mark.parametrize(("parseable", "valid"), [(142, False), (143, True)])  # 83.33% of 171 are 142.49
def test_valid_is_the_benchmarks_threshold(parseable: int, valid: bool) -> None:
    rows = [("a", i, ratings(0, 0, 0, 0) if i < parseable else "no") for i in range(171)]
    (row,) = eqbench.score(answers(*rows), key(171)).table.to_pylist()
    assert row["valid"] is valid


def test_ratings_that_were_not_asked_for_are_said() -> None:
    scores = eqbench.score(answers(("a", 0, ratings(0, 0, 0, 0) + "\nConfidence: 8")), key(1))
    assert scores.table["score"].to_pylist() == [100]
    assert any("more than was asked" in note for note in scores.notes)


def test_a_model_without_any_rating_has_no_score() -> None:
    (first, last) = eqbench.score(answers(("a", 0, "no"), ("b", 0, ratings(9, 9, 9, 9))), key(1)).table.to_pylist()
    assert (first["model"], last["model"], last["score"], last["rank"]) == ("b", "a", None, None)


def test_interval_is_that_of_a_mean_over_questions() -> None:
    rng = np.random.default_rng(5)
    rows = [("a", i, ratings(*rng.integers(0, 11, 4))) for i in range(171)]
    scores = eqbench.score(answers(*rows), key(171), n_resamples=4000)
    points = 10 * np.array([r["first_pass"] for r in scores.questions.to_pylist()])
    half = 1.974 * points.std(ddof=1) / math.sqrt(171)  # t with 170 degrees of freedom
    (row,) = scores.table.to_pylist()
    assert row["score"] == pytest.approx(points.mean())
    assert row["ci_low"] == pytest.approx(points.mean() - half, abs=0.1 * half)
    assert row["ci_high"] == pytest.approx(points.mean() + half, abs=0.1 * half)


def test_the_draw_is_the_seeds() -> None:
    rows = [("a", i, ratings(i % 7, 0, 0, 0)) for i in range(30)]
    one, same, other = (eqbench.score(answers(*rows), key(30), seed=s).table for s in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


# Reading


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_dumps_give_what_a_result_file_gives(tmp_path: Path, questions: Path, kind: str) -> None:
    texts = {str(i): ratings(i, 2 * i, 0, 0) for i in range(3)}
    expected = eqbench.score(result_file(tmp_path / "a.json", {"1": texts}), questions).table
    rows = [{"question_id": int(q), "model": "maker/a", "answer": text} for q, text in texts.items()]
    dump, table = tmp_path / f"dump.{kind}", pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(table, dump)
    elif kind == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(table, dump)
    else:
        dump.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = eqbench.score(dump, questions).table
    both = ["model", "score", "ci_low", "ci_high", "n_parseable", "n_missing"]
    assert found.select(both).equals(expected.select(both))


def test_a_local_result_file_and_two_runs_of_one_model(tmp_path: Path, questions: Path) -> None:
    about = {"run_metadata": {"model_path": "maker/a", "eq_bench_version": "v2"}}
    run = {**about, "iterations": {"1": {"raw_inference": {"0": ratings(0, 0, 0, 0)}}}}
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "raw.json").write_text(json.dumps({"x": run, "y": run}))
    (tmp_path / "runs" / "more.jsonl").write_text(json.dumps({"id": 0, "text": ratings(6, 0, 0, 0)}))
    table = eqbench.score(tmp_path / "runs", questions).table
    assert table["model"].to_pylist() == ["maker/a (raw)", "maker/a (raw) #2", "more"]


def test_an_iteration_column_keeps_samples_apart(tmp_path: Path, questions: Path) -> None:
    path = tmp_path / "dump.jsonl"
    rows = [{"id": i, "sample": s, "answer": ratings(6 * s, 0, 0, 0)} for i in range(3) for s in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = eqbench.score(path, questions, iteration="sample").table.to_pylist()
    assert (row["model"], row["n_iterations"], row["n_duplicate"]) == ("dump", 2, 0)
    assert row["score"] == pytest.approx(100 - 5 * 0.7477 * 6)
    (row,) = eqbench.score(path, questions).table.to_pylist()
    assert (row["n_iterations"], row["n_duplicate"], row["score"]) == (1, 3, 100)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON: its objects and lists are too deep"),
        ("[1]", "object is expected"),
        ('{"a": 1}', "neither raw_results nor iterations"),
        ('{"raw_results": {"1": {}}}', "no raw_inference"),
        ('{"raw_results": {"1": {"raw_inference": {"0": "x"}}}, "eqbench_version": "v1"}', "EQ-Bench v1"),
    ],
)
def test_result_files_that_cannot_be_used(tmp_path: Path, questions: Path, content: str, part: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=part) as error:
        eqbench.score(path, questions)
    assert error.value.path == str(path)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("[]", "no questions of EQ-Bench"),
        ('{"7": {"reference_answer": {}}}', "question '7' has no reference_answer_fullscale"),
        ('{"7": {"reference_answer_fullscale": {"emotion1": "Calm"}}}', "question '7' lacks an emotion"),
    ],
)
def test_keys_that_cannot_be_used(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(InputError, match=part):
        eqbench.read_questions(path)


def test_settings_and_columns_are_checked(questions: Path) -> None:
    with pytest.raises(UsageError, match="too few"):
        eqbench.score(answers(("a", 0, "x")), questions, n_resamples=10)
    with pytest.raises(UsageError, match="without question_id"):
        eqbench.score(pa.table({"model": ["a"], "answer": ["x"]}), questions)


# The command


def test_command(tmp_path: Path, questions: Path) -> None:
    path = result_file(tmp_path / "a.json", {"1": dict.fromkeys("012", ratings(0, 0, 0, 4))})
    options = ["eqbench", str(path), "--questions", str(questions)]
    for ending in ("json", "csv", "md", "parquet"):
        run = CliRunner().invoke(app, [*options, "-o", str(tmp_path / f"out.{ending}")])
        assert run.exit_code == EXIT_DONE
        assert "75.70" in run.stdout  # 100 - 7.477 * 3.25
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["ranking"][0]["score"] == pytest.approx(100 - 7.477 * 3.25)
    assert content["iterations"][0]["counts"] == "first_pass"
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == content["ranking"]
    assert (tmp_path / "out.md").read_text().startswith("| # | model | score |")
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("1,maker/a,75.6997")


def test_command_says_what_is_wrong(
    tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFFECTCORE_QUESTIONS", raising=False)
    path = result_file(tmp_path / "a.json", {"1": {"0": ratings(0, 0, 0, 0), "x": ""}})
    assert main(["eqbench", str(path)]) == EXIT_USAGE
    assert "eq_bench_v2_questions_171.json" in capsys.readouterr().err
    assert main(["eqbench", str(path), "--questions", str(tmp_path / "none.json")]) == EXIT_FAILED
    assert "none.json: cannot open it" in capsys.readouterr().err
    assert main(["eqbench", str(path), "--questions", str(questions), "-o", "x.html"]) == EXIT_USAGE
    assert main(["eqbench", str(path), "--questions", str(questions)]) == EXIT_PARTIAL
    assert "Not in the key: x" in capsys.readouterr().out


# The published results


@pytest.fixture(scope="module")
def published() -> eqbench.Scores:
    folder = data("eqbench-v2")
    return eqbench.score(folder / "results" / "eq-bench", folder / "data" / "eq_bench_v2_questions_171.json")


def test_published_scores_are_reproduced(published: eqbench.Scores) -> None:
    rows = published.table.to_pylist()
    assert len(rows) == len(list(data("eqbench-v2", "results", "eq-bench").glob("*.json")))
    assert all(row["valid"] for row in rows)  # none was published that is not
    off = {row["model"]: row["score"] - row["published"] for row in rows if abs(row["score"] - row["published"]) > 0.1}
    assert off == {}


def test_parsed_ratings_are_those_published(published: eqbench.Scores) -> None:
    key = eqbench.read_questions(data("eqbench-v2", "data", "eq_bench_v2_questions_171.json"))
    other = []
    for path in data("eqbench-v2", "results", "eq-bench").glob("*.json"):
        run = json.loads(path.read_text())["raw_results"]["1"]
        for question, text in run["raw_inference"].items():
            stored = run["respondent_answers"][question]
            for ours, name in zip(eqbench.parse(text, key[question]), ("first_pass", "revised")):
                # Names that the question does not ask for are stored too.
                theirs = {e: float(v) for e, v in stored[name].items() if e in key[question]}
                other += [(path.name, question, name)] if ours != theirs else []
    assert other == []
