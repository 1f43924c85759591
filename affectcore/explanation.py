"""Why a text has its score: what each feature adds, the passages that were scored, the segments that drive it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affectcore.errors import UsageError

if TYPE_CHECKING:
    from affectcore.models.base import Head, Model

__all__ = ["Explanation", "Feature", "Passage", "Segment", "explain"]


@dataclass(frozen=True)
class Feature:
    """What a feature adds to the logit of a score.

    Parameters
    ----------
    name
        An emotion's column, a hidden head, a word list, or ``bias``; of a head's score, ``bias`` and ``text``: all that
        the network reads out of the text.
    value
        Its value: a probability, a logit, or a rate per 100 words; None for ``bias`` and ``text``.
    adds
        Its share of the logit; those of all features sum up to it.
    """

    name: str
    value: float | None
    adds: float


@dataclass(frozen=True)
class Segment:
    """A sentence-like segment of the text.

    Parameters
    ----------
    text
        The segment, without white space at its ends.
    start
        Its first byte in the scored text.
    kind
        `text`, `code`, `table`, `url` or `quote`.
    score
        Its own score, as if it were all of the text; None where it has no tone.
    terms
        What it has of word lists: pairs of a list's name and an entry of it, in their order.
    """

    text: str
    start: int
    kind: str
    score: float | None
    terms: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Passage:
    """Consecutive sentences that were scored together; what has no tone (code, ...) is in none.

    Parameters
    ----------
    text
        The passage, without white space at its ends.
    start
        Its first byte in the scored text.
    n_tokens
        What it weighs in the mean over passages.
    score
        Its score; of distress, with the word lists' rates in the whole text. None where it is not finite.
    """

    text: str
    start: int
    n_tokens: int
    score: float | None


@dataclass(frozen=True)
class Explanation:
    """Why a text has its score; `explain` makes it.

    Parameters
    ----------
    metric, model
        The score's column, and the model.
    score
        The score, as `Scorer` gives it; None where the network's output is not finite.
    logit
        What the logistic function makes the score of, or the value itself of a regression; None for a text without
        words, and for scores that are means of those of passages.
    features
        What each feature adds to the logit, the largest first in absolute value; empty where there is no logit.
    passages
        What the model was given, the highest score first. A score without a logit is the mean of theirs, weighted by
        their tokens.
    segments
        All segments, the highest score first; those without tone come last.
    """

    metric: str
    model: str
    score: float | None
    logit: float | None
    features: tuple[Feature, ...]
    passages: tuple[Passage, ...]
    segments: tuple[Segment, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain, JSON-able values."""
        return asdict(self)


def explain(text: str, metric: str = "distress", model: str = "static") -> Explanation:
    """Explain a score of a text.

    Parameters
    ----------
    text
        The text. What is in `<think>` tags is left out, as `Scorer` does.
    metric
        ``distress``, or a column of one of the model's heads.
    model
        As for `Scorer`.

    Returns
    -------
    Explanation

    Raises
    ------
    UsageError
        If there is no such metric or model, the model does not have the metric, or counts or rules make it.

    Examples
    --------
    >>> import affectcore as ac
    >>> ac.explain("What a day! I am so grateful.", "emotion_gratitude").segments[0].text
    'I am so grateful.'
    """
    import pyarrow as pa

    from affectcore.arrow import ragged
    from affectcore.kernels import dispatch, segments
    from affectcore.lexicons import LISTS
    from affectcore.metrics import emotion, lexical
    from affectcore.scorer import _KINDS, Scorer

    if not isinstance(text, str):
        raise UsageError(f"the text to explain must be str, not {type(text).__name__}")
    scorer = Scorer(model, metrics=[metric])
    network: Model | None = scorer._model
    head = next((h for h in network.heads if metric in h.columns), None) if network else None
    if network is None or (metric not in network.derived and head is None):
        raise UsageError(f"metric {metric!r} needs no explanation but its definition, which affectcore metrics prints")
    said, _ = scorer._divide(pa.array([text], pa.large_string()))
    values, offsets = ragged(said.fill_null(""))
    backend = scorer.backend
    found = dispatch.fetch(segments.segments(*dispatch.place((values, offsets), backend), backend=backend))

    lists = network.distress.rates if head is None and network.distress else LISTS
    names = {metric, *LISTS}
    rates, own = (lexical.score(values, bounds, names, backend=backend) for bounds in (offsets, found.offsets))
    columns = emotion.score(values, offsets, names, network, backend=backend, logits=True, rates=rates)
    parts = emotion.score(values, offsets, names, network, unit="segment", backend=backend, rates=own)
    features = _features(metric, {**rates, **columns}, network, head)
    terms = lexical.terms(values, found.offsets, lists)
    cut = [bytes(values[a:b]).decode("utf-8", "replace").strip() for a, b in zip(found.offsets, found.offsets[1:])]
    shown = [
        Segment(said, int(start), _KINDS[kind], _number(score), tuple(matched))
        for said, start, kind, score, matched in zip(cut, found.offsets, found.kind, parts[metric], terms)
    ]
    return Explanation(
        metric=metric,
        model=network.name,
        score=_number(columns[metric][0]),
        logit=sum(feature.adds for feature in features) if features else None,
        features=features,
        passages=tuple(sorted(_passages(metric, values, offsets, network, backend, names, rates), key=_rank)),
        segments=tuple(sorted(shown, key=_rank)),
    )


def _rank(shown: Passage | Segment) -> float:
    return np.inf if shown.score is None else -shown.score


def _passages(
    metric: str,
    values: np.ndarray,
    offsets: np.ndarray,
    model: Model,
    backend: str,
    names: Collection[str],
    rates: Mapping[str, np.ndarray],
) -> list[Passage]:
    """Score every passage of a text for itself."""
    from affectcore.kernels import dispatch, segments
    from affectcore.metrics import emotion
    from affectcore.models.base import PASSAGE_BYTES

    found = segments.segments(*dispatch.place((values, offsets), backend), backend=backend)
    found, _ = model.toned(found, "passage", backend)
    found = dispatch.fetch(segments.passages(*found, PASSAGE_BYTES, backend=backend))
    of_text = {name: np.repeat(rate, len(found.kind)) for name, rate in rates.items()}
    scored = emotion.score(values, found.offsets, names, model, backend=backend, rates=of_text)
    return [
        Passage(bytes(values[a:b]).decode("utf-8", "replace").strip(), int(a), int(n), _number(score))
        for a, b, kind, n, score in zip(
            found.offsets, found.offsets[1:], found.kind, scored["n_tokens"], scored[metric]
        )
        if kind == segments.TEXT and n
    ]


def _features(metric: str, columns: Mapping[str, np.ndarray], model: Model, head: Head | None) -> tuple[Feature, ...]:
    from affectcore.metrics import distress

    known = next(columns[h.logit_columns[0]] for h in model.heads if not h.hidden)
    if np.isnan(known[0]):  # no words, or no finite score
        return ()
    if head is None:
        adds = {name: float(share[0]) for name, share in distress.contributions(columns, model).items()}
        found = [Feature(name, None if name == "bias" else float(columns[name][0]), x) for name, x in adds.items()]
    elif head.level == "passage" or head.kind == "single_label":
        return ()
    else:
        k = head.columns.index(metric)
        scale, bias = float(head.scale[k]), float(head.bias[k])
        text = scale * (float(columns[head.logit_columns[k]][0]) - bias)
        found = [Feature("text", None, text), Feature("bias", None, scale * bias + float(head.shift[k]))]
    return tuple(sorted(found, key=lambda feature: -abs(feature.adds)))


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
