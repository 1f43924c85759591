from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from typer.testing import CliRunner

from affectcore.cli.main import app, main
from affectcore.errors import EXIT_DONE, EXIT_PARTIAL, EXIT_USAGE, InputError, UsageError
from affectcore.exams import quiz
from affectcore.exams.quiz import Question, binomial_p, choose

OPTIONS = {
    "A": "A difficult feeling",
    "B": "Anger",
    "C": "Anger and shame",
    "D": "He would be proud of himself",
}


def answers(*rows: tuple[str, str, str | None], confidence: list[object] | None = None) -> pa.Table:
    table = pa.Table.from_pylist([{"model": m, "question_id": q, "answer": a} for m, q, a in rows])
    return table if confidence is None else table.append_column("confidence", pa.array(confidence))


def key(n: int) -> dict[str, Question]:
    return {str(i): Question("A", {}) for i in range(n)}


def marks(model: str, pattern: str) -> list[tuple[str, str, str | None]]:
    return [(model, str(i), "A" if mark == "1" else "B") for i, mark in enumerate(pattern)]


# Choosing


@pytest.mark.parametrize(
    "text",
    [
        "C",
        "(c)",
        "c.",
        "**C**",
        "C\n\nBecause she said so.",
        "C because she said so",
        "C) Anger and shame",
        "C. Since she lost, she feels it.",
        "C, as she lost.",
        "Option C",
        "Answer: C",
        "answer:\n  c",
        "The answer is (C).",
        "The correct answer is: **C) Anger and shame**",
        "Final answer: option C, because she lost.",
        "The best option is most likely C",
        "The answer would probably be C",
        "I would choose C.",
        "Rather than option B, I pick C.",
        "It is not (B), so (C).",
        "The answer is not B. The answer is C.",
        r"So we have $\boxed{C}$",
        r"\boxed{\text{C}}",
        '{"answer": "C"}',
        "Anger and shame",
        "She feels anger  and shame!",
        "<think>A, or B? Answer: A</think>C",
    ],
)
def test_choices_that_are_clear(text: str) -> None:
    assert choose(text, OPTIONS) == ("C", "")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Answer: A difficult feeling", "A"),  # an option's text that begins like a label
        ("I think she feels anger.", "B"),
        ("He'd say: He would be proud of himself", "D"),
    ],
)
def test_choices_by_text(text: str, label: str) -> None:
    assert choose(text, OPTIONS) == (label, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Answer: C and D", "several options are named: C, D"),
        ("A or B", "several options are named: A, B"),
        ("A) no\nB) no\nC) yes", "several options are named: A, B, C"),
        ("Option C is wrong, option D is right", "several options are named: C, D"),
        ("Answer: B) Anger and shame", "label B, but the text of C"),
        ("He would be proud of himself, after some anger", "several options are named: B, D"),
        ("The answer is a compromise", "no option is named"),
        ("It can't be (B)", "no option is named"),
        ("I would not choose B", "no option is named"),
        ("E", "no option is named"),
        ("C.5", "no option is named"),
        ("I cannot tell.", "no option is named"),
        ("  ", "empty answer"),
        (None, "empty answer"),
    ],
)
def test_choices_that_are_not_clear(text: str | None, reason: str) -> None:
    assert choose(text, OPTIONS) == (None, reason)


def test_numbered_options() -> None:
    labels = ("1", "2", "3")
    assert choose("The answer is 2.", labels) == ("2", "")
    assert choose("3", labels) == ("3", "")
    assert choose("Answer: 3.5", labels)[0] is None
    assert choose("Answer: 31", labels)[0] is None


@pytest.mark.parametrize("text", ["(" * 10**6, "\n" * 10**6, "a" * 10**6, "answer is " * 10**5, "\\boxed{" * 10**5])
def test_hostile_answers_end(text: str) -> None:
    assert choose(f"x {text}", OPTIONS)[0] is None


# Keys


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.json", '{"1": "B", "2": "a"}'),
        ("k.json", '[{"id": 1, "answer": "B"}, {"id": 2, "answer": "(A)"}]'),
        ("k.json", '{"1": {"correct": "B"}, "2": {"correct": "A"}}'),
        ("k.jsonl", '{"question_id": 1, "answer": "B"}\n\n{"question_id": 2, "answer": "A"}\n'),
        ("k.csv", "\ufeffid,key\n1,B\n2,A\n"),
        ("k.tsv", "id\tanswer\n1\tB\n2\tA\n"),
    ],
)
def test_keys_in_all_formats(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert {question: entry.correct for question, entry in quiz.read_key(path).items()} == {"1": "B", "2": "A"}


def test_keys_with_options(tmp_path: Path) -> None:
    path = tmp_path / "k.jsonl"
    rows = [
        {"id": "list", "answer": "Fear", "options": ["Joy", "Fear"], "weight": 2},
        {"id": "labels", "answer": "ii", "options": {"i": "Joy", "ii": "Fear"}},
        {"id": "json", "answer": "b", "options": '["Joy", "Fear"]'},
        {"id": "columns", "answer": "B", "A": "Joy", "B": "Fear"},
        {"id": "numbers", "answer": 2, "options": ["Joy", "Fear"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = quiz.read_key(path)
    assert [q.correct for q in found.values()] == ["B", "ii", "B", "B", "2"]
    assert {q.options[q.correct] for q in found.values()} == {"Fear"}
    assert [q.weight for q in found.values()] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"id": 1}, "no column for the correct option"),
        ({"answer": "A"}, "no column for the id"),
        ({"id": 1, "answer": ""}, "no correct option"),
        ({"id": 0, "answer": "B"}, "there twice"),
        ({"id": 1, "answer": "C", "options": ["Joy", "Fear"]}, "none of the options"),
        ({"id": 1, "answer": "Fear"}, "no label"),
        ({"id": 1, "answer": "A", "options": "Joy|Fear"}, "not JSON"),
        ({"id": 1, "answer": "A", "options": ["Joy", "joy!"]}, "same words"),
        ({"id": 1, "answer": "A", "weight": -1}, "weight -1"),
        ([], "list where an object is expected"),
    ],
)
def test_keys_name_the_row_that_is_wrong(tmp_path: Path, row: object, part: str) -> None:
    path = tmp_path / "k.jsonl"
    path.write_text(json.dumps({"id": 0, "answer": "A"}) + "\n" + json.dumps(row))
    with pytest.raises(InputError, match=part) as error:
        quiz.read_key(path)
    assert (error.value.path, error.value.row) == (str(path), 1)
    assert error.value.remedy


# Statistics


@pytest.mark.parametrize(
    ("k", "n", "share"), [(0, 5, 0.56), (5, 5, 0.56), (3, 10, 0.5), (81, 100, 0.56), (9, 40, 0.25)]
)
def test_binomial_p_is_scipys(k: int, n: int, share: float) -> None:
    assert binomial_p(k, n, share) == pytest.approx(stats.binomtest(k, n, share).pvalue, rel=1e-9)


def test_accuracy_interval_and_baseline() -> None:
    rows = marks("a", "1" * 81 + "0" * 19) + marks("b", "1" * 60 + "0" * 40)
    found = quiz.score(answers(*rows), key(100), baseline=0.56, baseline_name="humans")
    assert found.table["model"].to_pylist() == ["a", "b"]
    p = [stats.binomtest(k, 100, 0.56).pvalue for k in (81, 60)]
    for row, k in zip(found.table.to_pylist(), (81, 60)):
        ends = stats.binomtest(k, 100).proportion_ci(method="wilson")
        assert row["accuracy"] == k / 100
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((ends.low, ends.high))
        assert row["diff_to_baseline"] == pytest.approx(k / 100 - 0.56)
        assert (row["baseline_low"], row["baseline_high"]) == pytest.approx((ends.low - 0.56, ends.high - 0.56))
    assert found.table["p_baseline"].to_pylist() == pytest.approx(p)
    assert found.table["p_baseline_holm"].to_pylist() == pytest.approx([2 * p[0], p[1]])
    assert "to humans" in str(found)


def test_differences_are_paired() -> None:
    # They differ in four questions, always for the worse of b.
    a, b = "1" * 24 + "0" * 16, "1" * 20 + "0" * 20
    found = quiz.score(answers(*marks("a", a), *marks("b", b)), key(40), n_resamples=4000)
    (pair,) = found.pairs.to_pylist()
    assert (pair["a"], pair["b"], pair["n_questions"], pair["diff"]) == ("a", "b", 40, pytest.approx(0.1))
    differences = np.array([1.0] * 4 + [0.0] * 36)
    half = 2.023 * differences.std(ddof=1) / math.sqrt(40)  # t with 39 degrees of freedom
    assert pair["diff_high"] - pair["diff_low"] == pytest.approx(2 * half, rel=0.15)
    assert pair["p"] == pytest.approx(stats.binomtest(0, 4, 0.5).pvalue, abs=0.02)  # McNemar's exact test
    last = found.table.to_pylist()[1]
    assert last["diff_to_best"] == pytest.approx(-0.1)
    assert (last["diff_low"], last["diff_high"]) == pytest.approx((-pair["diff_high"], -pair["diff_low"]))


def test_differences_are_over_common_questions() -> None:
    rows = marks("a", "1111") + marks("b", "10")
    (pair,) = quiz.score(answers(*rows), key(4)).pairs.to_pylist()
    assert (pair["n_questions"], pair["diff"]) == (2, 0.5)


def test_nothing_is_dropped_silently() -> None:
    rows = [("a", "0", "A"), ("a", "1", "A or B"), ("a", "2", None), ("a", "99", "A"), ("a", "0", "B")]
    found = quiz.score(answers(*rows), key(4), baseline=0.5)
    (row,) = found.table.to_pylist()
    assert row["accuracy"] == pytest.approx(0.5 / 3)  # two answers to question 0, their mean; unclear ones are wrong
    assert row["accuracy_parseable"] == 0.5
    counts = ("n_questions", "n_answers", "n_unparseable", "n_missing", "n_repeated", "n_unknown")
    assert [row[name] for name in counts] == [3, 4, 2, 1, 1, 1]
    assert row["p_baseline"] is None
    assert found.n_left_out == 1
    notes = " ".join(found.notes)
    for part in ("a 1 (several options are named: A, B)", "a 2 (empty answer)", "left out: 99", "a 1.", "No test"):
        assert part in notes
    assert [r["status"] for r in found.answers.to_pylist()] == [
        "correct",
        "unparseable",
        "unparseable",
        "unknown",
        "wrong",
    ]


def test_weights() -> None:
    questions = {"0": Question("A", {}, 3.0), "1": Question("A", {}, 1.0)}
    (row,) = quiz.score(answers(*marks("a", "10")), questions, baseline=0.5).table.to_pylist()
    assert row["accuracy"] == 0.75
    size = 4**2 / (3**2 + 1)  # Kish
    z2 = stats.norm.ppf(0.975) ** 2
    middle = (0.75 + z2 / (2 * size)) / (1 + z2 / size)
    assert (row["ci_low"] + row["ci_high"]) / 2 == pytest.approx(middle)
    assert row["p_baseline"] is None


def test_stated_confidence() -> None:
    rows = [*marks("a", "1100"), ("a", "4", "unclear")]
    stated: list[object] = ["90%", "0.9", "0.5", "0.5", "0.9"]
    (row,) = quiz.score(answers(*rows, confidence=stated), key(5)).table.to_pylist()
    assert (row["n_confidence"], row["mean_confidence"]) == (4, pytest.approx(0.7))
    assert row["ece"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.5)
    assert row["brier"] == pytest.approx((2 * 0.1**2 + 2 * 0.5**2) / 4)
    percent = quiz.score(answers(*rows, confidence=[90.0, 90.0, 50.0, 50.0, -3.0]), key(5))
    assert percent.table.select(["ece", "brier"]).equals(
        quiz.score(answers(*rows, confidence=stated), key(5)).table.select(["ece", "brier"])
    )
    assert any("percentages" in note for note in percent.notes)
    assert any("1 stated confidence left out" in note for note in percent.notes)


def test_many_models_are_compared_with_the_first() -> None:
    rows = [row for i in range(22) for row in marks(f"m{i:02}", "1" * i + "0" * (22 - i))]
    found = quiz.score(answers(*rows), key(22))
    assert set(found.pairs["a"].to_pylist()) == {"m21"}
    assert found.pairs.num_rows == 21
    assert any("with the first only" in note for note in found.notes)


@pytest.mark.parametrize("baseline", [0.0, 56.0])
def test_baseline_is_a_share(baseline: float) -> None:
    with pytest.raises(UsageError, match=r"0\.56"):
        quiz.score(answers(*marks("a", "1")), key(1), baseline=baseline)


def test_ids_that_match_nothing() -> None:
    with pytest.raises(UsageError, match="ids"):
        quiz.score(answers(("a", "x", "A")), key(1))


# The command


def test_command(tmp_path: Path) -> None:
    (tmp_path / "key.csv").write_text("id,answer,A,B\n1,A,Joy,Fear\n2,Fear,Joy,Fear\n")
    dump = tmp_path / "answers.csv"
    dump.write_text(
        "id,model,text,answer,sure\n1,x,Which?,A,0.9\n2,x,Which?,fear,0.8\n1,y,Which?,B,1\n2,y,Which?,B,1\n"
    )
    options = ["quiz", str(dump), "--key", str(tmp_path / "key.csv"), "--confidence-column", "sure"]
    options += ["--baseline", "0.56", "--baseline-name", "people"]
    for ending in ("json", "csv", "md", "parquet"):
        run = CliRunner().invoke(app, [*options, "-o", str(tmp_path / f"out.{ending}")], env={"COLUMNS": "60"})
        assert run.exit_code == EXIT_DONE
        for shown in ("1.000", "to people", "people: 0.56", "ECE"):
            assert shown in run.stdout
    content = json.loads((tmp_path / "out.json").read_text())
    assert [row["accuracy"] for row in content["ranking"]] == [1, 0.5]
    assert content["pairs"][0]["diff"] == 0.5
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == content["ranking"]
    assert "| 1 | x | 1.000 |" in (tmp_path / "out.md").read_text()


def test_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, dump = tmp_path / "key.json", tmp_path / "answers.jsonl"
    key.write_text('{"1": "A"}')
    dump.write_text('{"id": 1, "answer": "A"}\n{"id": 2, "answer": "A"}\n')
    assert main(["quiz", str(dump), "--key", str(key)]) == EXIT_PARTIAL
    assert "not in the key, left out: 2" in capsys.readouterr().out
    assert main(["quiz", str(dump), "--key", str(key), "--question", "nr"]) == EXIT_USAGE
    assert "no column 'nr'" in capsys.readouterr().err
    assert main(["quiz", str(dump), "--key", str(key), "--baseline", "56"]) == EXIT_USAGE


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from affectcore.cli.main import main; main([{!r}, '--help']); print([*sys.modules])"
    for command in ("eqbench", "quiz"):
        out = subprocess.run([sys.executable, "-c", code.format(command)], capture_output=True, text=True).stdout
        assert "--report" in out
        for heavy in ("numpy", "pyarrow", "scipy"):
            assert f"'{heavy}'" not in out


@pytest.mark.parametrize(("unit", "said"), [("(A), ", "A"), ("(A) or (B), ", None), ("(a) and ", "A")])
def test_many_options_take_no_longer_than_others(unit: str, said: str | None) -> None:
    started = time.process_time()
    assert choose("x " + unit * 20_000, OPTIONS)[0] == said
    assert time.process_time() - started < 10
