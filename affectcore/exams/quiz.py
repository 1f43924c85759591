"""Multiple-choice tests: which option an answer chooses, and how many a model gets right.

Made for tests of emotional intelligence such as those of Schlegel, Sommer & Mortillaro 2025 (Communications Psychology
3:80), where people solved 56% of five ability tests on average; it asks nothing of the subject.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
    read_records,
    unread,
)
from affectcore.settings import MODEL_COLUMNS
from affectcore.stats.bootstrap import check_settings, cluster_bootstrap, expanded_interval, ranks
from affectcore.stats.paired import holm, sign_flip
from affectcore.stats.rates import wilson
from affectcore.stats.reliability import stated_confidence

if TYPE_CHECKING:
    from affectcore.io.formats.base import Problem

__all__ = ["Question", "Results", "binomial_p", "choose", "read_answers", "read_key", "score"]

KEY_COLUMNS = ("answer", "correct", "correct_option", "correct_answer", "key", "target")
"""Columns of a key that are likely to hold the correct option, most likely first."""

_ALL_PAIRS = 20  # models of which all pairs are compared; of more, each with the first
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WITHOUT_OPTIONS = 8  # letters that can be chosen where the key does not list the options

_RANKING = pa.schema(
    [
        ("rank", pa.int64()),
        ("model", pa.string()),
        ("accuracy", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("n_questions", pa.int64()),
        ("n_answers", pa.int64()),
        ("n_correct", pa.int64()),
        ("n_unparseable", pa.int64()),
        ("accuracy_parseable", pa.float64()),
        ("n_missing", pa.int64()),
        ("n_repeated", pa.int64()),
        ("n_unknown", pa.int64()),
        ("diff_to_best", pa.float64()),
        ("diff_low", pa.float64()),
        ("diff_high", pa.float64()),
        ("diff_to_baseline", pa.float64()),
        ("baseline_low", pa.float64()),
        ("baseline_high", pa.float64()),
        ("p_baseline", pa.float64()),
        ("p_baseline_holm", pa.float64()),
        ("n_confidence", pa.int64()),
        ("mean_confidence", pa.float64()),
        ("ece", pa.float64()),
        ("ece_low", pa.float64()),
        ("ece_high", pa.float64()),
        ("brier", pa.float64()),
        ("brier_low", pa.float64()),
        ("brier_high", pa.float64()),
    ]
)
_PAIRS = pa.schema(
    [
        ("a", pa.string()),
        ("b", pa.string()),
        ("n_questions", pa.int64()),
        ("diff", pa.float64()),
        ("diff_low", pa.float64()),
        ("diff_high", pa.float64()),
        ("p", pa.float64()),
        ("p_holm", pa.float64()),
    ]
)
_ANSWERS = pa.schema(
    [
        ("model", pa.string()),
        ("question_id", pa.string()),
        ("status", pa.string()),
        ("chosen", pa.string()),
        ("correct", pa.string()),
        ("confidence", pa.float64()),
        ("detail", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Question:
    """One question of a key.

    Parameters
    ----------
    correct
        Label of the correct option.
    options
        Texts of the options by label; empty where the key does not list them.
    weight
        What the question counts, above 0.
    """

    correct: str
    options: Mapping[str, str]
    weight: float = 1.0

    @property
    def labels(self) -> tuple[str, ...]:
        """What can be chosen: the labels of the options, else the first letters, or numbers."""
        if self.options:
            return tuple(self.options)
        if self.correct.isdigit():
            return tuple(str(i) for i in range(1, max(_WITHOUT_OPTIONS, int(self.correct)) + 1))
        return tuple(_LETTERS[: max(_WITHOUT_OPTIONS, _LETTERS.index(self.correct) + 1)])


@dataclass(frozen=True)
class Results(Ranking):
    """The outcome of `score`.

    Parameters
    ----------
    table
        One row per model, best first. `accuracy`: share of the questions answered that are right, weighted where the
        key has weights; an answer that cannot be parsed is wrong, and of a question with several answers their mean
        counts. `ci_low`, `ci_high`: its Wilson interval, with the number of questions. `accuracy_parseable`: share of
        right ones among the answers that could be parsed. `diff_to_best`, `diff_low`, `diff_high`: over the questions
        that both answered. `diff_to_baseline`, its interval and two-sided exact binomial p-value, also with Holm's
        correction for the number of models. `ece` (15 bins of equal width), `brier`: of stated confidences against
        being right, over parseable answers, with bootstrap
        intervals. The rest are counts; `n_missing` are questions of the key without answer.
    pairs
        One row per pair of models, `a` ranked before `b`, over the questions that both answered: difference of the
        accuracies, bootstrap interval, p-value of the sign-flip test, and with Holm's correction. Of more than 20
        models, each is paired with the first only.
    answers
        One row per answer: `status` is ``correct``, ``wrong``, ``unparseable`` or ``unknown`` (the key does not have
        the question); `detail` says why.
    notes, settings, n_left_out
        As of `Ranking`.
    """

    pairs: pa.Table
    answers: pa.Table

    @property
    def method(self) -> str:
        """How the numbers were made, as one sentence without a full stop."""
        s = self.settings
        several = self.table.num_rows > 1
        differences = (
            f"; differences: expanded percentile intervals of {s['n_resamples']:,} bootstrap replicates over questions"
        )
        return (
            f"{counted(s['n_questions'], 'question')}{', weighted' if s['weighted'] else ''}; "
            f"{s['confidence'] * 100:g}% Wilson intervals"
            + (f"{differences}, seed {s['seed']}" if several else "")
            + (f"; {s['baseline_name']}: {s['baseline']:g}" if s["baseline"] is not None else "")
        )

    def columns(self) -> list[tuple[str, bool, list[str]]]:
        """Return what is shown of the table: heads, whether they are numbers, and cells."""
        rows = self.table.to_pylist()
        confidence = f"{self.settings['confidence'] * 100:g}% interval"
        shown = [
            ("#", True, ["" if r["rank"] is None else str(r["rank"]) for r in rows]),
            ("model", False, [escape.line(r["model"]) for r in rows]),
            ("accuracy", True, [_shown(r["accuracy"]) for r in rows]),
            (confidence, True, [_range(r["ci_low"], r["ci_high"]) for r in rows]),
            ("questions", True, [f"{r['n_questions']:,}" for r in rows]),
            ("unparseable", True, [f"{r['n_unparseable']:,}" for r in rows]),
        ]
        if len(rows) > 1:
            cells = [_change(r["diff_to_best"], r["diff_low"], r["diff_high"]) for r in rows]
            shown.append(("to first", True, cells))
        if self.settings["baseline"] is not None:
            cells = [_change(r["diff_to_baseline"], r["baseline_low"], r["baseline_high"]) for r in rows]
            shown.append((f"to {escape.line(self.settings['baseline_name'])}", True, cells))
            shown.append(("p (Holm)", True, [_p(r["p_baseline_holm"]) for r in rows]))
        if any(r["n_confidence"] for r in rows):
            shown += [(name, True, [_shown(r[name.lower()]) for r in rows]) for name in ("ECE", "Brier")]
        return shown

    def details(self) -> dict[str, list[dict[str, Any]]]:
        """Return the pairs, and the answers that could not be scored."""
        left = [row for row in self.answers.to_pylist() if row["status"] in ("unparseable", "unknown")]
        return {"pairs": self.pairs.to_pylist(), "not_scored": left}


# Choosing ---------------------------------------------------------------------------------------------------------

_NEGATED = re.compile(
    r"(?:\bnot|n['’]t\b|\bnever|\bthan|\binstead of|\brul\w+ out|\beliminat\w+|\breject\w*|\bexcept)"
    r"\s+(?:be\s+)?(?:the\s+)?(?:option|answer|choice)?\s*[(\[\"'“]*$",
    re.IGNORECASE,
)
# "The answer is a compromise", "the option I prefer": an article or a pronoun, unless a reason follows.
_WORD_AFTER = re.compile(r"\s+(?!(?:because|since|as|is|for|and|or|due)\b)[a-z]")


@lru_cache(maxsize=256)
def _patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Return the ways to name an option, the plainest first, and last how a second one is joined to it."""
    one = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    end = r"(?!\w|['’]\w|\.\d)"
    label = rf"[(\[\"'“{{]{{0,3}}({one}){end}"  # bounded, here and below: long runs of brackets must cost nothing
    noun = r"(?:\b(?:option|choice|answer|letter|number)\s+)?"
    surely = r"(?:(?:most\s+)?\w+ly\s+|therefore\s+)?"
    link = rf"(?:\s*(?:\bis\b|\b(?:w|sh)ould\s+{surely}be\b|[:=–—-]))+"
    forms = (
        rf"\A{noun}{label}[\s\"'”)\].:;,!]*\Z",
        rf"(?:\b(?:answer|choice|option)[\"'”]?{link}\s*{surely}{noun}|\\boxed\s*\{{\s*){label}",
        rf"\b(?:choose|chose|choosing|pick(?:ed)?|select(?:ed|ing)?|(?:go|going) with|opt for)\s*:?\s+{noun}{label}",
        rf"^[ \t]{{0,9}}{noun}[(\[]{{0,2}}({one})(?:\s*[)\].:](?!\d)|\s*[,–—-]\s|\s*$|\s+(?:because|since|and|or)\b)",
        rf"(?:\boption\s+{label}|[(\[]({one})[)\]])",
        rf"[)\]\"'”]{{0,3}}\s*(?:,\s*(?:and|or)\b|[,/&]|\band\b|\bor\b)\s*{noun}{label}",
    )
    return tuple(re.compile(form, re.IGNORECASE | re.MULTILINE) for form in forms)


def choose(text: str | None, options: Mapping[str, str] | Sequence[str]) -> tuple[str | None, str]:
    r"""Find the option that an answer chooses.

    The first of these that names an option decides: the answer is an option's text; it is a label (``C``, ``(c)``,
    ``Option C.``); ``answer is C`` or ``\boxed{C}``; ``I choose C``; a line that begins with ``C)``, ``C.``, ``C:`` or
    ``C,``; ``option C`` or ``(C)``; an option's text within the answer. Labels that are ruled out in words (``not B``)
    do not count. If it names several options, or a label with another option's text, nothing is chosen. What a
    reasoning model thinks before ``</think>`` is no part of its answer.

    Parameters
    ----------
    text
        The answer.
    options
        Texts by label, or labels alone.

    Returns
    -------
    label, reason
        The label, or None and why.
    """
    texts = {label: _plain(option) for label, option in options.items()} if isinstance(options, Mapping) else {}
    answer = re.sub(r"[*`]+|\\text\b", "", (text or "").rpartition("</think>")[2]).strip()
    if not answer:
        return None, "empty answer"
    words = _plain(answer)
    for label, option in texts.items():
        if words == option:
            return label, ""
    by_fold = {label.casefold(): label for label in options}
    *ways, also = _patterns(tuple(options))
    for way in ways:
        found: dict[str, int] = {}
        joined: set[int] = set()  # ends of labels: what is joined to those has been gone through
        for first in way.finditer(answer):
            if _NEGATED.search(answer, max(0, first.start() - 40), first.start()):
                continue
            match: re.Match[str] | None = first
            while match:
                group = match.lastindex or 1
                start, end = match.span(group)
                name = match[group].casefold()
                word = name in ("a", "i") and _WORD_AFTER.match(answer, end)
                if word or _NEGATED.search(answer, max(0, start - 40), start):
                    break
                if end in joined:
                    break
                joined.add(end)
                found.setdefault(by_fold[name], end)
                match = also.match(answer, end)
        if len(found) > 1:
            return None, f"several options are named: {', '.join(sorted(found))}"
        for label, end in found.items():
            other = _begins(_plain(answer[end : end + 400]), texts)
            if other not in (None, label):
                return None, f"label {label}, but the text of {other}"
            return label, ""
    named = _within(words, texts)
    if len(named) == 1:
        return named[0], ""
    return None, f"several options are named: {', '.join(sorted(named))}" if named else "no option is named"


def _plain(text: str) -> str:
    """Return the words of a text, as lower-case words between single spaces."""
    return " ".join(re.findall(r"\w+", text.casefold().replace("’", "'").replace("'", "")))


def _begins(words: str, texts: Mapping[str, str]) -> str | None:
    """Return the label of the longest option that words begin with."""
    there = [label for label, option in texts.items() if option and f"{words} ".startswith(f"{option} ")]
    return max(there, key=lambda label: len(texts[label]), default=None)


def _within(words: str, texts: Mapping[str, str]) -> list[str]:
    """Return the labels of the options in words; an option that is part of a longer one is not meant by it."""
    left, found = f" {words} ", []
    for label in sorted(texts, key=lambda label: len(texts[label]), reverse=True):
        option = f" {texts[label]} "
        if texts[label] and option in left:
            found.append(label)
            left = left.replace(option, " \n ")
    return found


# Reading ----------------------------------------------------------------------------------------------------------


def read_key(path: str | Path) -> dict[str, Question]:
    """Read an answer key.

    Parameters
    ----------
    path
        JSON (a list of objects, an object of objects by id, or an object of correct options by id), JSON Lines, CSV,
        TSV or Parquet with a row per question: its id (`QUESTION_COLUMNS` of `affectcore.exams`), the correct option
        (`KEY_COLUMNS`: a letter, a number from 1, or the option's text), ``options`` if it is to be found by its text
        (a list, an object of texts by label, JSON of these, or columns A, B, C, ...), and ``weight``.

    Returns
    -------
    dict
        Questions by id, in the order of the file.

    Raises
    ------
    InputError
        The file cannot be read, or a question is incomplete, there twice or contradicts itself; names the row.
    """
    path = Path(path)
    key: dict[str, Question] = {}
    for number, row in read_records(path):

        def fail(reason: str, remedy: str, number: int = number) -> InputError:
            return InputError(path, reason, remedy, number)

        id_column = next((n for n in QUESTION_COLUMNS if n in row), None)
        column = next((n for n in KEY_COLUMNS if n in row), None)
        if id_column is None or column is None:
            lacking = "id" if id_column is None else "correct option"
            columns = ", ".join(QUESTION_COLUMNS if id_column is None else KEY_COLUMNS)
            raise fail(
                f"no column for the {lacking}: there are {', '.join(map(str, row))}", f"name it one of {columns}"
            )
        question, correct = name_of(row[id_column]), (name_of(row[column]) or "").strip()
        if question is None or not correct:
            raise fail(f"no {'id' if question is None else 'correct option'}", "fill it in, or remove the row")
        if question in key:
            raise fail(f"question {question!r} is there twice", "remove one of them")
        try:
            options = _options(row, numbered=correct.isdigit())
            weight = float(row.get("weight") or 1)
        except ValueError as error:
            raise fail(str(error), "give options as a list or as texts by label, weights as numbers") from error
        if not (weight > 0 and math.isfinite(weight)):
            raise fail(f"weight {weight:g}", "weights are numbers above 0")
        if len(set(map(_plain, options.values()))) < len(options):
            raise fail("two options have the same words", "options must differ")
        label = next((name for name in options if name.casefold() == correct.casefold()), None)
        label = label or next((name for name, text in options.items() if _plain(text) == _plain(correct)), None)
        if label is None and options:
            raise fail(f"the correct option {correct!r} is none of the options", "give its label or its text")
        if label is None:
            label = correct.upper().strip("().[]: ")
            if not (label.isdigit() and label != "0") and not (len(label) == 1 and label in _LETTERS):
                remedy = "give a letter, a number from 1, or the options too, in a column options"
                raise fail(f"the correct option {correct!r} is no label", remedy)
        key[question] = Question(label, options, weight)
    if not key:
        raise InputError(path, "a key without questions", "one row a question")
    return key


def _options(row: Mapping[str, Any], numbered: bool) -> dict[str, str]:
    given = row.get("options", row.get("choices"))
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except json.JSONDecodeError as error:
            raise ValueError(f"options are not JSON: {error.msg}") from error
    if not given:
        given = {}
        for letter in _LETTERS:
            names = (letter, f"option_{letter.lower()}", f"option_{letter}")
            text = next((row[name] for name in names if row.get(name) not in (None, "")), None)
            if text is None:
                break
            given[letter] = text
    if isinstance(given, list):
        labels = [str(i + 1) for i in range(len(given))] if numbered else list(_LETTERS)
        if len(given) > len(labels):
            raise ValueError(f"{len(given)} options, more than letters")
        given = dict(zip(labels, given))
    if not isinstance(given, dict):
        raise ValueError(f"options are {type(given).__name__}")
    return {str(label).strip(): str(text) for label, text in given.items()}


def read_answers(
    inputs: str | Path | Iterable[str | Path],
    *,
    text: str | None = None,
    question: str | None = None,
    by: str | None = None,
    confidence_column: str | None = None,
) -> tuple[pa.Table, list[Problem]]:
    """Read answers to a quiz.

    Parameters
    ----------
    inputs
        Files, folders or patterns: Parquet, Arrow IPC, JSON Lines, CSV or TSV with a row per answer.
    text, question, by, confidence_column
        Columns: the answer, the id of the question, the model, and the confidence that the model states. By default
        the usual names of the first three, and no confidence. Without a model's column, a file is a model.

    Returns
    -------
    answers
        Columns `model`, `question_id`, `answer`, `confidence` (as text), `file`, `row`.
    problems
        Rows that could not be read.

    Raises
    ------
    UsageError
        There is no such column; names those there are.
    InputError
        A file cannot be read.
    """
    from affectcore.io.readers import discover

    columns: dict[str, tuple[str | None, Sequence[str]]] = {
        "question": (question, QUESTION_COLUMNS),
        "by": (by, MODEL_COLUMNS),
        "confidence": (confidence_column, ()),
    }
    rows, unreadable = [], []
    for source in discover(inputs if isinstance(inputs, str | Path) else list(inputs)):
        read, problems = read_dump(source, text, columns, ["question"])
        unreadable += problems
        rows += [
            {
                "model": name_of(row["by"]) if "by" in row else source.path.stem,
                "question_id": name_of(row["question"]),
                "answer": row["answer"],
                "confidence": name_of(row.get("confidence")),
                "file": str(source.path),
                "row": row["row"],
            }
            for row in read
        ]
    names = ("model", "question_id", "answer", "confidence", "file")
    return pa.Table.from_pylist(rows, pa.schema([*((n, pa.string()) for n in names), ("row", pa.int64())])), unreadable


# Scoring ----------------------------------------------------------------------------------------------------------


def binomial_p(k: int, n: int, share: float) -> float:
    """Return the two-sided exact p-value of `k` of `n` under a binomial of `share`.

    The sum of the probabilities of all counts that are no more likely than `k`, as `scipy.stats.binomtest` has it.

    Parameters
    ----------
    k, n
        Successes and trials.
    share
        Probability of a success, in (0, 1).
    """
    logs = [
        math.lgamma(n + 1)
        - math.lgamma(i + 1)
        - math.lgamma(n - i + 1)
        + i * math.log(share)
        + (n - i) * math.log1p(-share)
        for i in range(n + 1)
    ]
    # Counts as likely as k but for rounding belong to the sum.
    return min(1.0, math.fsum(math.exp(v) for v in logs if v <= logs[k] + 1e-7))


def score(
    answers: pa.Table | str | Path | Iterable[str | Path],
    key: Mapping[str, Question] | str | Path,
    *,
    text: str | None = None,
    question: str | None = None,
    by: str | None = None,
    confidence_column: str | None = None,
    baseline: float | None = None,
    baseline_name: str = "baseline",
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Results:
    """Score answers to multiple-choice questions.

    Parameters
    ----------
    answers
        What `read_answers` takes, or its table (columns `model`, `question_id`, `answer`; others may be absent).
    key
        What `read_key` takes, or returns.
    text, question, by, confidence_column
        As for `read_answers`. Confidences are shares, or percentages if any exceeds 1.
    baseline, baseline_name
        Share right that models are held against, such as people's, taken as exact; and whose it is.
    n_resamples, seed
        Replicates and seed of the bootstrap of differences, and of the sign-flip test's flips.
    confidence
        Coverage of intervals.

    Returns
    -------
    Results

    Raises
    ------
    UsageError
        A column is missing, a setting is out of range, or there are no answers.
    InputError
        A file cannot be read.
    """
    check_settings(n_resamples, seed, confidence)
    if baseline is not None and not 0 < baseline < 1:
        raise UsageError(f"the baseline is a share between 0 and 1, not {baseline:g}; 56% is 0.56")
    questions = key if isinstance(key, Mapping) else read_key(key)
    problems: list[Problem] = []
    if not isinstance(answers, pa.Table):
        answers, problems = read_answers(
            answers, text=text, question=question, by=by, confidence_column=confidence_column
        )
    lacking = [name for name in ("model", "question_id", "answer") if name not in answers.column_names]
    if lacking:
        raise UsageError(f"answers without {', '.join(lacking)}: there are {', '.join(answers.column_names)}")
    if not answers.num_rows:
        raise UsageError("there are no answers, so there is nothing to score")

    judged = [_judge(row, questions) for row in check_table(answers).to_pylist()]
    notes = _confidences(judged)
    models = list(dict.fromkeys(r["model"] for r in judged))
    place = {name: i for i, name in enumerate(questions)}
    right, asked = np.zeros((2, len(models), len(questions)))
    for r in judged:
        if r["status"] != "unknown":
            cell = models.index(r["model"]), place[r["question_id"]]
            asked[cell] += 1
            right[cell] += r["status"] == "correct"
    credit = np.divide(right, asked, out=np.full(asked.shape, np.nan), where=asked > 0)
    weight = np.array([q.weight for q in questions.values()])
    weighted = bool((weight != weight[0]).any())
    held = np.where(np.isnan(credit), 0.0, weight)
    accuracy = np.divide(
        (held * np.nan_to_num(credit)).sum(1), held.sum(1), out=np.full(len(models), np.nan), where=held.any(1)
    )

    rank = ranks(accuracy)
    order = sorted(range(len(models)), key=lambda i: (rank[i], models[i]))
    answered = [i for i in order if asked[i].any()]
    if not answered:
        raise UsageError("no answer is to a question of the key: are the ids those of the key?")
    exact = not weighted and asked.max() <= 1
    table = []
    for i in order:
        n = int((asked[i] > 0).sum())
        mine = [r for r in judged if r["model"] == models[i]]
        status = Counter(r["status"] for r in mine)
        parseable = status["correct"] + status["wrong"]
        row: dict[str, Any] = {
            "model": models[i],
            "n_questions": n,
            "n_answers": int(asked[i].sum()),
            "n_correct": status["correct"],
            "n_unparseable": status["unparseable"],
            "accuracy_parseable": status["correct"] / parseable if parseable else None,
            "n_missing": len(questions) - n,
            "n_repeated": int(asked[i].sum()) - n,
            "n_unknown": status["unknown"],
            **_calibration(mine, place, n_resamples, seed, confidence),
        }
        if n:
            # Kish's effective number where weights differ: questions, not repeated answers, are the sample.
            size = held[i].sum() ** 2 / (held[i] ** 2).sum()
            low, high = (float(end) for end in wilson(min(accuracy[i], 1.0) * size, size, confidence))
            row.update(rank=int(rank[i]), accuracy=float(accuracy[i]), ci_low=low, ci_high=high)
            if baseline is not None:
                row.update(
                    diff_to_baseline=float(accuracy[i]) - baseline,
                    baseline_low=low - baseline,
                    baseline_high=high - baseline,
                    p_baseline=binomial_p(status["correct"], n, baseline) if exact else None,
                )
        table.append(row)
    if baseline is not None and exact:
        tested = [row for row in table if row.get("p_baseline") is not None]
        for row, p in zip(tested, holm([row["p_baseline"] for row in tested])):
            row["p_baseline_holm"] = float(p)
    pairs = _pairs(models, credit, weight, answered, n_resamples, seed, confidence)
    to_best = {pair["b"]: pair for pair in pairs if pair["a"] == models[order[0]]}
    for row in table[1:]:
        if pair := to_best.get(row["model"]):
            row.update(diff_to_best=-pair["diff"] if pair["diff"] is not None else None)
            if pair["diff_low"] is not None:
                row.update(diff_low=-pair["diff_high"], diff_high=-pair["diff_low"])
    return Results(
        table=_table(table, _RANKING),
        notes=(*unread(problems), *notes, *_notes(judged, table, baseline is not None and not exact, len(answered))),
        settings={
            "n_questions": len(questions),
            "weighted": weighted,
            "baseline": baseline,
            "baseline_name": baseline_name,
            "n_resamples": n_resamples,
            "seed": seed,
            "confidence": confidence,
        },
        n_left_out=len(problems) + sum(r["status"] == "unknown" for r in judged),
        pairs=_table(pairs, _PAIRS),
        answers=_table(judged, _ANSWERS),
    )


def _table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _judge(row: Mapping[str, Any], questions: Mapping[str, Question]) -> dict[str, Any]:
    """Return the row of one answer."""
    name = name_of(row["question_id"])
    question = questions.get(name or "")
    entry = {
        "model": name_of(row["model"]) or "(null)",
        "question_id": name,
        "confidence": row.get("confidence"),
        "file": row.get("file"),
        "row": row.get("row"),
    }
    if question is None:
        return {**entry, "status": "unknown", "detail": "the key has no such question"}
    chosen, detail = choose(name_of(row["answer"]), question.options or question.labels)
    status = "unparseable" if chosen is None else "correct" if chosen == question.correct else "wrong"
    return {**entry, "status": status, "chosen": chosen, "correct": question.correct, "detail": detail or None}


def _confidences(judged: list[dict[str, Any]]) -> list[str]:
    """Turn stated confidences into shares, in place, and say what was done."""
    given = [r for r in judged if r["confidence"] is not None]
    values: list[float | None] = []
    for r in given:
        stated = str(r["confidence"]).strip()
        try:
            values.append(float(stated.removesuffix("%")) / (100 if stated.endswith("%") else 1))
        except ValueError:
            values.append(None)
    percent = any(v is not None and 1 < v <= 100 for v in values)
    out = 0
    for r, v in zip(given, values):
        share = v / 100 if v is not None and percent and not str(r["confidence"]).strip().endswith("%") else v
        r["confidence"] = share if share is not None and 0 <= share <= 1 else None
        out += r["confidence"] is None
    notes = ["Confidences are read as percentages: one exceeds 1."] if percent else []
    if out:
        notes.append(
            f"{counted(out, 'stated confidence')} left out: no number between 0 and {'100' if percent else '1'}."
        )
    return notes


def _calibration(
    rows: list[dict[str, Any]], place: Mapping[str, int], n_resamples: int, seed: int, confidence: float
) -> dict[str, Any]:
    """Return calibration error and Brier score of one model's stated confidences, with intervals over questions."""
    stated = [r for r in rows if r["confidence"] is not None and r["status"] in ("correct", "wrong")]
    found = stated_confidence(
        [r["confidence"] for r in stated],
        [r["status"] == "correct" for r in stated],
        cluster=[place[r["question_id"]] for r in stated],
        n_resamples=n_resamples,
        seed=seed,
        confidence=confidence,
    )
    figures = {"ece": found.ece, "brier": found.brier}
    return {
        "n_confidence": found.n,
        "mean_confidence": found.stated.value,
        **{name: figure.value for name, figure in figures.items()},
        **{f"{name}_low": figure.low for name, figure in figures.items()},
        **{f"{name}_high": figure.high for name, figure in figures.items()},
    }


def _pairs(
    models: list[str], credit: Any, weight: Any, order: list[int], n_resamples: int, seed: int, confidence: float
) -> list[dict[str, Any]]:
    """Return the paired differences, over the questions that both models answered."""
    if len(order) < 2:
        return []
    several = itertools.combinations(order, 2) if len(order) <= _ALL_PAIRS else ((order[0], i) for i in order[1:])
    couples = list(several)
    differences = np.stack([credit[a] - credit[b] for a, b in couples], axis=1)
    known = ~np.isnan(differences)
    held = np.where(known, weight[:, None], 0.0)
    question, pair = np.nonzero(known)
    boot = cluster_bootstrap(
        (held * np.nan_to_num(differences))[known],
        held[known],
        question,
        pair,
        n_models=len(couples),
        n_resamples=n_resamples,
        seed=seed,
    )
    low, high = expanded_interval(boot.replicates[:, :, 0], boot.n_clusters[:, 0], confidence)
    p = sign_flip(differences * weight[:, None], seed=seed)
    corrected = holm(p)
    rows = []
    for j, (a, b) in enumerate(couples):
        n = int(known[:, j].sum())
        row: dict[str, Any] = {"a": models[a], "b": models[b], "n_questions": n, "diff": None, "diff_low": None}
        if n:
            row.update(diff=float(boot.mean[j, 0]), p=float(p[j]), p_holm=float(corrected[j]))
        if n > 1:  # one question cannot show how much questions differ
            row.update(diff_low=float(low[j]), diff_high=float(high[j]))
        rows.append(row)
    return rows


def _notes(judged: list[dict[str, Any]], table: list[dict[str, Any]], no_test: bool, n_models: int) -> list[str]:
    notes = []
    unparseable = [r for r in judged if r["status"] == "unparseable"]
    if unparseable:
        which = listed(f"{r['model']} {r['question_id']} ({r['detail']})" for r in unparseable)
        notes.append(f"Unclear which option is meant, counted as wrong, {len(unparseable):,} in all: {which}.")
    missing = [r for r in table if r["n_missing"]]
    if missing:
        which = listed(f"{r['model']} {r['n_missing']}" for r in missing)
        notes.append(f"Questions without an answer, left out of a model's accuracy: {which}.")
    repeated = [r for r in table if r["n_repeated"]]
    if repeated:
        which = listed(f"{r['model']} {r['n_repeated']}" for r in repeated)
        notes.append(f"Further answers to a question that the model answered already; their mean counts: {which}.")
    unknown = [r for r in judged if r["status"] == "unknown"]
    if unknown:
        which = listed(str(r["question_id"]) for r in unknown)
        notes.append(f"{counted(len(unknown), 'answer')} to questions that are not in the key, left out: {which}.")
    if no_test:
        notes.append(
            "No test against the baseline: questions have weights or several answers, so counts are not binomial."
        )
    if n_models > _ALL_PAIRS:
        notes.append(f"More than {_ALL_PAIRS} models: each is compared with the first only.")
    return notes


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _change(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    return f"{value:+.3f}" + ("" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]")


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
