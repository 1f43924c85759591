"""EQ-Bench v2: how well a model predicts the intensity of what people in a dialogue feel.

Each of 171 questions names four emotions; the answer rates each from 0 to 10, once or, in runs with a critique, a first
time and revised. With d the distance of a rating from the reference, a question's score is

    10 - 0.7477 * (sum of s(d) over the four emotions)
    s(d) = 0 for d = 0, 6.5 / (1 + exp(-1.2 (d - 4))) for 0 < d <= 5, d for d > 5

so that random answers get about 0 and the reference itself 10. A pass (first, revised) scores ten times the mean over
the questions that could be parsed. The revised pass counts where it scores at least as high as the first and has at
least 95% as many parseable answers, else the first; a run's score is the mean over its iterations. A run with fewer
than 83.33% of the questions parseable is no valid run.

Source: Paech 2023 (arXiv:2312.06281) and the scoring of v2 and v2.1 as published at github.com/EQ-bench/EQ-Bench. One
thing is done otherwise: ratings of something that was not asked (``Confidence: 8``) are passed over, whereas the
published pattern then gives up the pass; the notes count such answers.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from affectcore import escape
from affectcore.arrow import check_table
from affectcore.errors import InputError, UsageError
from affectcore.exams import (
    QUESTION_COLUMNS,
    Ranking,
    counted,
    listed,
    name_of,
    read_dump,
    read_json,
    unread,
)
from affectcore.settings import MODEL_COLUMNS
from affectcore.stats.bootstrap import check_settings, cluster_bootstrap, expanded_interval, rank_interval, ranks

if TYPE_CHECKING:
    from affectcore.io.formats.base import Problem

__all__ = ["ANSWERS", "Scores", "parse", "question_score", "read_answers", "read_questions", "score"]

N_QUESTIONS = 171
SCALE = 0.7477
LEAST_REVISED = 0.95
LEAST_PARSEABLE = 0.8333

ANSWERS = pa.schema(
    [
        ("run", pa.string()),
        ("model", pa.string()),
        ("iteration", pa.string()),
        ("question_id", pa.string()),
        ("answer", pa.large_string()),
        ("published", pa.float64()),
        ("file", pa.string()),
        ("row", pa.int64()),
    ]
)
"""Columns of answers. `run`: the run of a result file, null for a dump; `published`: the run's score as it was
published, where the file has it; `row`: row of the dump."""

_RANKING = pa.schema(
    [
        ("rank", pa.int64()),
        ("model", pa.string()),
        ("score", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("rank_low", pa.int64()),
        ("rank_high", pa.int64()),
        ("n_iterations", pa.int64()),
        ("n_parseable", pa.float64()),
        ("n_questions", pa.int64()),
        ("valid", pa.bool_()),
        ("published", pa.float64()),
        ("n_unparseable", pa.int64()),
        ("n_missing", pa.int64()),
        ("n_duplicate", pa.int64()),
        ("n_unknown", pa.int64()),
        ("file", pa.string()),
    ]
)
_ITERATIONS = pa.schema(
    [
        ("model", pa.string()),
        ("iteration", pa.string()),
        ("score", pa.float64()),
        ("counts", pa.string()),
        ("n_parseable", pa.int64()),
        ("first_pass", pa.float64()),
        ("n_first_pass", pa.int64()),
        ("revised", pa.float64()),
        ("n_revised", pa.int64()),
        ("file", pa.string()),
    ]
)
_QUESTIONS = pa.schema(
    [
        ("model", pa.string()),
        ("iteration", pa.string()),
        ("question_id", pa.string()),
        ("status", pa.string()),
        ("first_pass", pa.float64()),
        ("revised", pa.float64()),
        ("detail", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
    ]
)

_RATING = re.compile(r"(\w{1,40}):\s+(\d+)")  # bounded: a word of a megabyte must not cost its square
_FIRST, _REVISED = "First pass scores:", "Revised scores:"
_PASSES = ("first_pass", "revised")
_LEFT_OUT = ("unparseable", "missing", "duplicate", "unknown")

Key = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Scores(Ranking):
    """The outcome of `score`.

    Parameters
    ----------
    table
        One row per run, best first: `rank`, `model`, `score` (100 is the reference, about 0 random answers; null where
        nothing could be parsed), `ci_low`, `ci_high`, `rank_low`, `rank_high` (bootstrap over questions),
        `n_iterations`, `n_parseable` (of the pass that counts, mean over iterations), `n_questions` (of the key),
        `valid` (at least 83.33% parseable), `published`, then over all iterations `n_unparseable`, `n_missing`,
        `n_duplicate`, `n_unknown`; `file`, where the run is a result file's.
    iterations
        One row per run and iteration, with both passes and which of them counts.
    questions
        One row per answer, and per question without one: `status` is ``scored``, ``unparseable``, ``missing``,
        ``duplicate`` (an earlier row answers the question, and counts) or ``unknown`` (the key does not have it);
        `first_pass` and `revised` in points, at most 10; `detail` says what was wrong or passed over.
    notes, settings, n_left_out
        As of `Ranking`.
    """

    iterations: pa.Table
    questions: pa.Table

    @property
    def method(self) -> str:
        """How the numbers were made, as one sentence without a full stop."""
        s = self.settings
        return (
            f"EQ-Bench v2, {counted(s['n_questions'], 'question')}; {s['confidence'] * 100:g}% expanded percentile "
            f"intervals of {s['n_resamples']:,} bootstrap replicates over questions, seed {s['seed']}"
        )

    def columns(self) -> list[tuple[str, bool, list[str]]]:
        """Return what is shown of the table: heads, whether they are numbers, and cells."""
        rows = self.table.to_pylist()
        shown = [
            ("#", True, [_or(r["rank"], "{}") for r in rows]),
            ("model", False, [escape.line(r["model"]) for r in rows]),
            ("score", True, [_or(r["score"], "{:.2f}") for r in rows]),
            (
                f"{self.settings['confidence'] * 100:g}% interval",
                True,
                ["" if r["ci_low"] is None else f"[{r['ci_low']:.1f}, {r['ci_high']:.1f}]" for r in rows],
            ),
            ("rank", True, [_span(r["rank_low"], r["rank_high"]) for r in rows]),
            (
                "parseable",
                True,
                [f"{r['n_parseable']:g}/{r['n_questions']}{'' if r['valid'] else ' !'}" for r in rows],
            ),
        ]
        if any(r["published"] is not None for r in rows):
            shown.append(("published", True, [_or(r["published"], "{:.2f}") for r in rows]))
        return shown

    def details(self) -> dict[str, list[dict[str, Any]]]:
        """Return the iterations, and the questions that were not scored."""
        left = [row for row in self.questions.to_pylist() if row["status"] != "scored"]
        return {"iterations": self.iterations.to_pylist(), "not_scored": left}


def parse(text: str, emotions: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Read the ratings out of an answer.

    A rating is a word, a colon, white space and a whole number; of several of one emotion the last counts. Sections are
    told by the headings ``First pass scores:`` and ``Revised scores:``; without the latter the whole answer is the
    first pass. What a reasoning model thinks before ``</think>`` is no part of its answer.

    Parameters
    ----------
    text
        The answer.
    emotions
        Names that were asked for; ratings of others are passed over.

    Returns
    -------
    first_pass, revised
        Ratings by emotion; empty where there are none.
    """
    asked = set(emotions)
    return tuple({e: v for e, v in ratings.items() if e in asked} for ratings in _sections(text))  # type: ignore[return-value]


def _sections(text: str) -> tuple[dict[str, float], dict[str, float]]:
    answer = text.rpartition("</think>")[2]
    first, heading, revised = answer.partition(_REVISED)
    if heading:
        first = first.partition(_FIRST)[2]
    return _ratings(first), _ratings(revised)


def _ratings(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in _RATING.findall(text)}


def question_score(ratings: Mapping[str, float], reference: Mapping[str, float]) -> float | None:
    """Return the score of one pass over one question.

    Parameters
    ----------
    ratings
        Ratings by emotion.
    reference
        Reference intensities by emotion.

    Returns
    -------
    float or None
        At most 10; None unless all emotions of the reference are rated, and no others.
    """
    if ratings.keys() != reference.keys():
        return None
    return 10 - SCALE * sum(_scaled(abs(ratings[e] - r)) for e, r in reference.items())


def _scaled(d: float) -> float:
    if d == 0 or d > 5:
        return d
    return 6.5 / (1 + math.exp(-1.2 * (d - 4)))


def read_questions(path: str | Path) -> dict[str, dict[str, float]]:
    """Read the reference intensities from the benchmark's file of questions.

    Parameters
    ----------
    path
        ``eq_bench_v2_questions_171.json`` of github.com/EQ-bench/EQ-Bench, or a file like it: an object of questions by
        id, each with ``reference_answer_fullscale``, which has ``emotion1`` and ``emotion1_score`` to ``emotion4``.

    Returns
    -------
    dict
        Intensities by emotion, by question id, in the order of the file.

    Raises
    ------
    InputError
        The file is missing, no JSON, or has questions without reference; names the question.
    """
    path = Path(path)
    content = read_json(path)
    remedy = "give eq_bench_v2_questions_171.json, from the folder data of github.com/EQ-bench/EQ-Bench"
    if not isinstance(content, dict) or not content:
        raise InputError(path, "no questions of EQ-Bench: an object of questions by id is expected", remedy)
    key = {}
    for question, entry in content.items():
        reference = entry.get("reference_answer_fullscale") if isinstance(entry, dict) else None
        if not isinstance(reference, dict):
            raise InputError(path, f"question {question!r} has no reference_answer_fullscale, as v2 has", remedy)
        try:
            key[question] = {str(reference[f"emotion{i}"]): float(reference[f"emotion{i}_score"]) for i in range(1, 5)}
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the reference of question {question!r} lacks an emotion or its score: {error}"
            raise InputError(path, reason, remedy) from error
        if len(key[question]) < 4:
            raise InputError(path, f"the reference of question {question!r} names an emotion twice", remedy)
    return key


def read_answers(
    inputs: str | Path | Iterable[str | Path],
    *,
    text: str | None = None,
    question: str | None = None,
    by: str | None = None,
    iteration: str | None = None,
) -> tuple[pa.Table, list[Problem]]:
    """Read answers to EQ-Bench.

    Parameters
    ----------
    inputs
        Files, folders or patterns. A .json file is a result of the benchmark: as it publishes them (``raw_results``),
        or as it keeps them locally (runs with ``iterations``). Others are dumps: Parquet, Arrow IPC, JSON Lines, CSV or
        TSV with a row per answer. A file without a column for the model is one model, named as the file.
    text, question, by, iteration
        Columns of a dump: the answer, the id of the question, the model, and which of several answers to a question
        this is. By default the usual names; the last is ``iteration``, and may be absent.

    Returns
    -------
    answers
        With the columns `ANSWERS`.
    problems
        Rows that could not be read.

    Raises
    ------
    UsageError
        A dump has no such column; names those there are.
    InputError
        A file cannot be read, or is a .json file that holds no answers to EQ-Bench v2.
    """
    from affectcore.io.readers import Source, discover

    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if not given:
        raise UsageError("no input given")
    rows: list[dict[str, Any]] = []
    unreadable: list[Problem] = []
    columns = {
        "question": (question, QUESTION_COLUMNS),
        "by": (by, MODEL_COLUMNS),
        "iteration": (iteration, ("iteration",)),
    }
    done: set[Path] = set()
    for item in given:
        folder = Path(item)
        # A folder is searched for dumps alone by `discover`, which must not miss them beside result files either.
        paths = sorted(folder.rglob("[!._]*.json")) if folder.is_dir() else []
        sources = [Source(path, "json", path.name) for path in paths]
        try:
            sources += discover(item)
        except InputError:
            if not sources:
                raise
        for source in sources:
            path = source.path
            if path.resolve() in done:
                continue
            done.add(path.resolve())
            if path.suffix.lower() == ".json":
                rows += _result_file(path)
                continue
            read, problems = read_dump(source, text, columns, ["question"])
            for row in read:
                rows.append(
                    {
                        "model": name_of(row["by"]) if "by" in row else path.stem,
                        "iteration": name_of(row.get("iteration")),
                        "question_id": name_of(row["question"]),
                        "answer": row["answer"],
                        "file": str(path),
                        "row": row["row"],
                    }
                )
            unreadable += problems
    return pa.Table.from_pylist(rows, schema=ANSWERS), unreadable


def _result_file(path: Path) -> list[dict[str, Any]]:
    content = read_json(path)
    remedy = "give result files of EQ-Bench v2; rows of answers go into a .jsonl, .csv or .parquet file"
    if not isinstance(content, dict) or not content:
        raise InputError(path, "no result of EQ-Bench: an object is expected", remedy)
    runs = {"": content} if "raw_results" in content else content
    rows = []
    for run, entry in runs.items():
        iterations = entry.get("raw_results", entry.get("iterations")) if isinstance(entry, dict) else None
        if not isinstance(iterations, dict) or not iterations:
            raise InputError(path, "no result of EQ-Bench: there is neither raw_results nor iterations", remedy)
        about = {**entry, **entry.get("run_metadata", {})}
        version = about.get("eqbench_version", about.get("eq_bench_version", "v2"))
        if version != "v2":
            raise InputError(path, f"a result of EQ-Bench {version}, whose scores are not those of v2", remedy)
        published = about.get("benchmark_score")
        for number, iteration in iterations.items():
            answers = iteration.get("raw_inference") if isinstance(iteration, dict) else None
            if not isinstance(answers, dict) or not answers:
                raise InputError(path, f"iteration {number} has no raw_inference, the answers as given", remedy)
            rows += [
                {
                    "run": f"{path}#{run}",
                    "model": str(about.get("model_path") or run or path.stem),
                    "iteration": str(number),
                    "question_id": str(question),
                    "answer": None if answer is None else str(answer),
                    "published": published if isinstance(published, int | float) else None,
                    "file": str(path),
                }
                for question, answer in answers.items()
            ]
    return rows


def score(
    answers: pa.Table | str | Path | Iterable[str | Path],
    questions: Key | str | Path,
    *,
    text: str | None = None,
    question: str | None = None,
    by: str | None = None,
    iteration: str | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Scores:
    """Score answers to EQ-Bench v2 as the benchmark does.

    Parameters
    ----------
    answers
        What `read_answers` takes, or its table (columns `model`, `question_id`, `answer`; the others may be absent).
    questions
        What `read_questions` takes, or returns.
    text, question, by, iteration
        As for `read_answers`.
    n_resamples, seed
        Replicates of the bootstrap and its seed. Questions are drawn, the same for all models.
    confidence
        Share of the replicates inside an interval. In each replicate the better pass is chosen anew.

    Returns
    -------
    Scores

    Raises
    ------
    UsageError
        A column is missing or a setting is out of range.
    InputError
        A file cannot be read.
    """
    check_settings(n_resamples, seed, confidence)
    key = questions if isinstance(questions, Mapping) else read_questions(questions)
    problems: list[Problem] = []
    if not isinstance(answers, pa.Table):
        answers, problems = read_answers(answers, text=text, question=question, by=by, iteration=iteration)
    lacking = [name for name in ("model", "question_id", "answer") if name not in answers.column_names]
    if lacking:
        raise UsageError(f"answers without {', '.join(lacking)}: there are {', '.join(answers.column_names)}")
    if not answers.num_rows:
        raise UsageError("there are no answers, so there is nothing to score")

    rows = check_table(answers).to_pylist()
    for row in rows:
        row["model"] = name_of(row["model"]) or "(null)"
        row["question_id"] = name_of(row["question_id"])
        row["iteration"] = name_of(row.get("iteration")) or "1"
    runs = _named({(r.get("run"), r["model"]): r.get("file") for r in rows})
    judged = _judge(rows, runs, key)
    numbers = {q: i for i, q in enumerate(key)}
    groups = list(dict.fromkeys((r["model"], r["iteration"]) for r in judged))
    points = np.full((len(groups), 2, len(key)), np.nan)
    places = {group: i for i, group in enumerate(groups)}
    for r in judged:
        if r["status"] == "scored":
            for j, name in enumerate(_PASSES):
                if r[name] is not None:
                    points[places[r["model"], r["iteration"]], j, numbers[r["question_id"]]] = r[name]

    known = ~np.isnan(points)
    n = known.sum(axis=2)
    owner, code = np.divmod(np.arange(len(groups) * len(key)), len(key))
    boot = cluster_bootstrap(
        10 * np.nan_to_num(points).transpose(0, 2, 1).reshape(-1, 2),
        known.transpose(0, 2, 1).reshape(-1, 2),
        code,
        owner,
        n_resamples=n_resamples,
        seed=seed,
    )
    of_iterations, uses_revised = _final(boot.mean, n)
    replicated, _ = _final(boot.replicates, n)
    n_final = np.where(uses_revised, n[:, 1], n[:, 0])

    labels = list(dict.fromkeys(model for model, _ in groups))
    member = np.array([[model == label for model, _ in groups] for label in labels])
    scores, replicates = (_mean(values, member) for values in (of_iterations, replicated))
    answered = np.array([known[chosen].any(axis=(0, 1)).sum() for chosen in member])
    low, high = expanded_interval(replicates, answered, confidence)
    rank, (rank_low, rank_high) = ranks(scores), rank_interval(replicates, confidence)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for r in judged:
        counts[r["model"]][r["status"]] += 1
    published = {runs[r.get("run"), r["model"]]: r.get("published") for r in rows}
    files = {runs[r.get("run"), r["model"]]: r.get("file") if r.get("run") else None for r in rows}

    ranking = []
    for i in sorted(range(len(labels)), key=lambda i: (rank[i], labels[i])):
        label, scored = labels[i], not math.isnan(scores[i])
        spread = scored and answered[i] >= 2  # one question cannot show how much questions differ
        ranking.append(
            {
                "rank": int(rank[i]) if scored else None,
                "model": label,
                "score": float(scores[i]) if scored else None,
                "ci_low": float(low[i]) if spread else None,
                "ci_high": float(high[i]) if spread else None,
                "rank_low": int(rank_low[i]) if spread else None,
                "rank_high": int(rank_high[i]) if spread else None,
                "n_iterations": int(member[i].sum()),
                "n_parseable": float(n_final[member[i]].mean()),
                "n_questions": len(key),
                "valid": bool(n_final[member[i]].mean() >= LEAST_PARSEABLE * len(key)),
                "published": published[label],
                **{f"n_{status}": counts[label][status] for status in _LEFT_OUT},
                "file": files[label],
            }
        )
    iterations = [
        {
            "model": model,
            "iteration": number,
            "score": _number(of_iterations[i]),
            "counts": _PASSES[int(uses_revised[i])] if n[i].any() else None,
            "n_parseable": int(n_final[i]),
            **{name: _number(boot.mean[i, j]) for j, name in enumerate(_PASSES)},
            **{f"n_{name}": int(n[i, j]) for j, name in enumerate(_PASSES)},
            "file": files[model],
        }
        for i, (model, number) in enumerate(groups)
    ]
    return Scores(
        table=pa.Table.from_pylist(ranking, schema=_RANKING),
        notes=(*unread(problems), *_notes(judged, ranking, len(key))),
        settings={
            "benchmark": "EQ-Bench v2",
            "n_questions": len(key),
            "n_resamples": n_resamples,
            "seed": seed,
            "confidence": confidence,
            "interval": "expanded percentile of the bootstrap over questions",
        },
        n_left_out=len(problems) + sum(c["duplicate"] + c["unknown"] for c in counts.values()),
        iterations=pa.Table.from_pylist(iterations, schema=_ITERATIONS),
        questions=pa.Table.from_pylist(judged, schema=_QUESTIONS),
    )


def _named(runs: dict[tuple[str | None, str], str | None]) -> dict[tuple[str | None, str], str]:
    """Give every run a name of its own: the model's, with the file where two runs are of one model."""
    often = Counter(model for _, model in runs)
    named: dict[tuple[str | None, str], str] = {}
    for (run, model), file in runs.items():
        name = model if often[model] == 1 or run is None else f"{model} ({Path(file or run).stem})"
        taken = sum(other == name or other.startswith(f"{name} #") for other in named.values())
        named[run, model] = f"{name} #{taken + 1}" if taken else name
    return named


def _judge(rows: list[dict[str, Any]], runs: dict[tuple[str | None, str], str], key: Key) -> list[dict[str, Any]]:
    """Return a row per answer and per question without one."""
    judged: list[dict[str, Any]] = []
    seen: dict[tuple[str, str], dict[str, int | None]] = {}
    for row in rows:
        model, iteration, question = runs[row.get("run"), row["model"]], row["iteration"], row["question_id"]
        entry = {
            "model": model,
            "iteration": iteration,
            "question_id": question,
            "first_pass": None,
            "revised": None,
            "file": row.get("file"),
            "row": row.get("row"),
        }
        judged.append(entry)
        answered = seen.setdefault((model, iteration), {})
        if question not in key:
            entry.update(status="unknown", detail="the key has no such question")
        elif question in answered:
            at = answered[question]
            entry.update(status="duplicate", detail="answered before" + ("" if at is None else f", in row {at}"))
        else:
            answered[question] = row.get("row")
            entry.update(_assess(row["answer"], key[question]))
    for (model, iteration), answered in seen.items():
        judged += [
            {"model": model, "iteration": iteration, "question_id": q, "status": "missing", "detail": "no answer"}
            for q in key
            if q not in answered
        ]
    return [{"first_pass": None, "revised": None, "detail": None, "file": None, "row": None, **r} for r in judged]


def _assess(answer: str | None, reference: Mapping[str, float]) -> dict[str, Any]:
    """Return status, scores and what there is to say of one answer."""
    if not answer or not answer.strip():
        return {"status": "unparseable", "detail": "empty answer"}
    found, remarks = {}, []
    for name, ratings in zip(_PASSES, _sections(answer)):
        asked = {e: v for e, v in ratings.items() if e in reference}
        found[name] = question_score(asked, reference)
        others, lacking = [e for e in ratings if e not in reference], [e for e in reference if e not in asked]
        if ratings and lacking:
            remarks.append(f"{name} rates no {', '.join(lacking)}" + (f" but {', '.join(others)}" if others else ""))
        elif others:
            remarks.append(f"{name} also rates {', '.join(others)}")
        if found[name] is not None and max(asked.values()) > 10:
            remarks.append(f"{name} has a rating above 10")
    scored = any(value is not None for value in found.values())
    return {
        "status": "scored" if scored else "unparseable",
        **found,
        "detail": "; ".join(remarks) or (None if scored else "no ratings found"),
    }


def _final(passes: Any, n: Any) -> tuple[Any, Any]:
    """Return the score of the pass that counts, and whether it is the revised one.

    Parameters
    ----------
    passes
        Scores of both passes, shape (..., iterations, 2).
    n
        Parseable answers of both, shape (iterations, 2).
    """
    first, revised = passes[..., 0], passes[..., 1]
    enough = (n[:, 1] > 0) & (n[:, 1] >= LEAST_REVISED * n[:, 0])
    use = enough & (np.isnan(first) | (revised >= first))
    return np.where(use, revised, first), use


def _mean(values: Any, member: Any) -> Any:
    """Return the mean of the iterations of each run that have a score, shape (..., runs)."""
    known = ~np.isnan(values)
    total, count = np.nan_to_num(values) @ member.T, known.astype(np.float64) @ member.T
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _notes(judged: list[dict[str, Any]], ranking: list[dict[str, Any]], n_questions: int) -> list[str]:
    notes = []

    def say(status: str, text: str) -> None:
        found = [r for r in judged if r["status"] == status]
        if found:
            start = text.format(n=counted(len(found), "answer"), q=counted(len(found), "question"))
            notes.append(f"{start}: {listed(r['model'] for r in found)}.")

    say("unparseable", "{n} without ratings of all four emotions, left out as the benchmark does")
    say("missing", "{q} without an answer, left out as the benchmark does")
    say("duplicate", "{n} to questions that the same model and iteration had answered before; the first counts")
    say("unknown", "{n} to questions that are not in the key, left out")
    lacking = [r for r in judged if r["status"] == "unknown"]
    if lacking:
        notes.append(f"Not in the key: {listed(str(r['question_id']) for r in lacking)}.")
    extra = [r for r in judged if r["status"] == "scored" and "also rates" in (r["detail"] or "")]
    if extra:
        notes.append(
            f"{counted(len(extra), 'answer')} with ratings of more than was asked, which are passed over, whereas "
            f"the published pattern then gives up the pass: {listed(r['model'] for r in extra)}."
        )
    above = [r for r in judged if r["status"] == "scored" and "above 10" in (r["detail"] or "")]
    if above:
        notes.append(
            f"{counted(len(above), 'answer')} with a rating above 10, counted as it stands, as the benchmark does: "
            f"{listed(r['model'] for r in above)}."
        )
    if n_questions != N_QUESTIONS:
        notes.append(f"Not comparable with EQ-Bench v2, which has {N_QUESTIONS} questions: the key has {n_questions}.")
    few = [r["model"] for r in ranking if not r["valid"]]
    if few:
        notes.append(
            f"Marked !, as fewer than 83.33% are parseable: no valid run by the benchmark's rule: {listed(few)}."
        )
    return notes


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _or(value: float | None, shape: str) -> str:
    return "" if value is None else shape.format(value)


def _span(low: int | None, high: int | None) -> str:
    return "" if low is None else f"{low}" if low == high else f"{low}-{high}"
