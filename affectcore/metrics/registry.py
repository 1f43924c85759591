"""The registry of metrics: one entry per score column, in output order.

The text of each entry is the documentation: ``affectcore metrics`` prints it and the README's table is made from it.
A metric's version goes up whenever the same text can get another score, and it travels in every output's metadata.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from affectcore.errors import UsageError
from affectcore.metrics import emonet, taxonomy

if TYPE_CHECKING:
    from affectcore.models.base import Head

__all__ = ["GROUPS", "METRICS", "ON_REQUEST", "Metric", "select"]


@dataclass(frozen=True)
class Metric:
    """One score column.

    Parameters
    ----------
    name
        Name of the column.
    version
        Goes up by one when the same text can get another score.
    unit
        What a value counts or measures.
    range
        Lowest and highest possible value; None where there is no limit.
    dtype
        Arrow type of the column: ``float32`` or ``int32``.
    group
        Name that selects the metric together with its relatives.
    higher_is
        How a leaderboard reads a higher mean; ``neither`` for a description that is no judgement.
    definition
        What is computed, including the value of an empty text.
    source
        Where the definition comes from.
    validated_on
        What the numbers were checked against.
    limits
        What the metric must not be taken for.
    """

    name: str
    version: int
    unit: str
    range: tuple[float | None, float | None]
    dtype: Literal["float32", "int32"]
    group: str
    higher_is: Literal["better", "worse", "neither"]
    definition: str
    source: str
    validated_on: str
    limits: str

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain, JSON-able values."""
        return {**asdict(self), "range": list(self.range)}

    @property
    def needs_model(self) -> bool:
        """Whether a model with heads computes it."""
        return self.group not in ("vader", "lexical", "surface", "counts", "emonet") or self.name in _OF_TOKENS

    @property
    def range_text(self) -> str:
        """The range in interval notation, for example ``[-1, 1]`` or ``[0, no limit)``."""
        low, high = ("no limit" if end is None else f"{end:g}" for end in self.range)
        return f"{'(' if self.range[0] is None else '['}{low}, {high}{')' if self.range[1] is None else ']'}"


_OF_TOKENS = ("n_segments", "n_tokens", "truncated")
ON_REQUEST = (*taxonomy.TAXONOMIES, "emonet")
"""Groups that `default` leaves out."""

_VADER_SOURCE = (
    "Hutto & Gilbert 2014, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM; "
    "lexicon and rules of vaderSentiment 3.3.2 (MIT)"
)
_VADER_CHECK = "exact to vaderSentiment 3.3.2"
_VADER_LIMITS = (
    "English only. A lexicon with rules: it misses irony, quotation and topic, and was made for short posts on social "
    "media, so {}. In the corrected mode the numbers differ from VADER on purpose."
)
_COUNT_CHECK = "not validated against human labels yet; a count"


def _vader(name: str, low: float, definition: str, caveat: str) -> Metric:
    return Metric(
        name=name,
        version=1,
        unit="score" if low < 0 else "share",
        range=(low, 1.0),
        dtype="float32",
        group="vader",
        higher_is="neither",
        definition=f"{definition} An empty text gets 0.",
        source=_VADER_SOURCE,
        validated_on=_VADER_CHECK,
        limits=_VADER_LIMITS.format(caveat),
    )


def _lexical(name: str, higher_is: Literal["better", "worse", "neither"], what: str, limits: str) -> Metric:
    return Metric(
        name=name,
        version=1,
        unit="per 100 words",
        range=(0.0, None),  # an emoji is one word, but its description has several
        dtype="float32",
        group="lexical",
        higher_is=higher_is,
        definition=(
            f"{what}: matches of the words and phrases of the list, without regard to case, per 100 "
            "whitespace-separated words. An empty text gets 0."
        ),
        source=f"affectcore/lexicons/{name}.txt, written for this project",
        validated_on=_COUNT_CHECK,
        limits=(
            "English only; matches words, not meaning: quoted and negated text counts too. A word glued to another by "
            "a dash or slash is missed, and one of three letters or more with a curly quotation mark at its edge. "
            f"{limits}"
        ),
    )


def _surface(name: str, definition: str, limits: str) -> Metric:
    return Metric(
        name=name,
        version=1,
        unit="per 100 words",
        range=(0.0, None),
        dtype="float32",
        group="surface",
        higher_is="neither",
        definition=f"{definition} per 100 whitespace-separated words. An empty text gets 0.",
        source="a count over the text",
        validated_on=_COUNT_CHECK,
        limits=limits,
    )


def _count(name: str, unit: str, higher_is: Literal["worse", "neither"], definition: str, limits: str) -> Metric:
    return Metric(
        name=name,
        version=1,
        unit=unit,
        range=(0.0, None),
        dtype="int32",
        group="counts",
        higher_is=higher_is,
        definition=definition,
        source="a count over the text",
        validated_on="exact by definition",
        limits=limits,
    )


_EMOTION_LIMITS = (
    "English only. Learnt from short Reddit comments, labelled by readers: what a text expresses, not what anybody "
    "feels; irony and emotions told in other words than usual are missed. {}"
)


def _figures(name: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return what the embedded model's head measured on the test split, by label; None before it was trained."""
    path = Path(__file__).parents[1] / "models" / "embedded" / "static" / "affect.json"
    if not path.exists():
        return dict.fromkeys(labels)
    record = json.loads(path.read_text(encoding="utf-8"))
    found = next(head["info"].get("test", {}).get("labels", {}) for head in record["heads"] if head["name"] == name)
    return {label: found.get(label) for label in labels}


def _measured(split: str, figure: dict[str, Any] | None, *names: tuple[str, str]) -> str:
    if figure is None:
        return "not measured yet"
    said = ", ".join(f"{title} {_interval(figure[name])}" for title, name in names)
    return f"{split} test split, model static: {said}; {figure['n']:,} {'texts' if split == 'EmoBank' else 'positives'}"


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['estimate']:.2f} (95% interval {figure['low']:.2f} to {figure['high']:.2f})"


def _emotions() -> Iterator[Metric]:
    for label, figure in _figures("emotion", taxonomy.GOEMOTIONS).items():
        rare = " Rare in the training data, so single scores are weak evidence." if figure and figure["n"] < 50 else ""
        yield Metric(
            name=f"emotion_{label}",
            version=1,
            unit="probability",
            range=(0.0, 1.0),
            dtype="float32",
            group="emotion",
            higher_is="neither",
            definition=(
                f"Calibrated probability that a reader finds {label} expressed, averaged over the passages of a text, "
                "weighted by their tokens; code, tables and URLs do not count. "
                f"A text without words gets {int(label == 'neutral')}."
            ),
            source="GoEmotions (Demszky et al. 2020, CC BY 4.0); head of the model, see affectcore models",
            validated_on=_measured("GoEmotions", figure, ("F1", "f1"), ("AUROC", "auroc")),
            limits=_EMOTION_LIMITS.format(f"Other models have other figures.{rare}"),
        )


def _vad() -> Iterator[Metric]:
    what = {
        "valence": "how pleasant (1) or unpleasant (-1)",
        "arousal": "how excited (1) or calm (-1)",
        "dominance": "how much in control (1) or controlled (-1)",
    }
    for label, figure in _figures("vad", tuple(what)).items():
        yield Metric(
            name=label,
            version=1,
            unit="score",
            range=(-1.0, 1.0),
            dtype="float32",
            group="vad",
            higher_is="neither",
            definition=(
                f"{label.capitalize()}: {what[label]} the feeling in a text is to a reader, -1 and 1 being the ends of "
                "EmoBank's scale of 1 to 5; averaged over the passages of a text, weighted by their tokens; code, "
                "tables and URLs do not count. A text without words gets 0."
            ),
            source="EmoBank (Buechel & Hahn 2017, CC BY-SA 4.0); head of the model, see affectcore models",
            validated_on=_measured("EmoBank", figure, ("Pearson", "pearson")),
            limits=_EMOTION_LIMITS.format(
                "Most texts lie near the middle of the scale: a score of 0.3 is far out. Dominance is hard to rate."
                if label == "dominance"
                else "Most texts lie near the middle of the scale: a score of 0.3 is far out."
            ),
        )


def _coarse() -> Iterator[Metric]:
    for name, entry in taxonomy.TAXONOMIES.items():
        for label, members in entry.mapping.items():
            yield Metric(
                name=f"{name}_{label}",
                version=1,
                unit="probability",
                range=(0.0, 1.0),
                dtype="float32",
                group=name,
                higher_is="neither",
                definition=(
                    f"{label.capitalize()} in the taxonomy {name}: from the probabilities of the GoEmotions labels "
                    f"{', '.join(members)}, see affectcore.metrics.taxonomy."
                ),
                source=entry.source,
                validated_on="not validated by itself; made from the emotion columns",
                limits="Only as good as the emotions it is made of. Written only when it is asked for.",
            )


_ENTRIES = (
    _vader(
        "vader_compound",
        -1.0,
        "VADER's overall valence: the sum of the rule-adjusted valences of all words, emoji included, squashed to "
        "[-1, 1] by x / sqrt(x^2 + 15), four decimals.",
        "long answers drift towards -1 or 1 because the sum grows with length",
    ),
    _vader(
        "vader_pos",
        0.0,
        "VADER's share of positive valence in the total of positive, neutral and negative weight, three decimals.",
        "long answers with many neutral words have small shares",
    ),
    _vader(
        "vader_neu",
        0.0,
        "VADER's share of words without valence in the total of positive, neutral and negative weight, three decimals.",
        "long answers with many neutral words come close to 1",
    ),
    _vader(
        "vader_neg",
        0.0,
        "VADER's share of negative valence in the total of positive, neutral and negative weight, three decimals.",
        "technical words such as error, kill or failure count as negative",
    ),
    *_emotions(),
    *_vad(),
    *_coarse(),
    _lexical(
        "first_person",
        "neither",
        "Rate of first-person singular words (I, me, my, mine, myself and contractions)",
        "Code, role play and drafts written for the user contain them as well.",
    ),
    _lexical(
        "absolutist",
        "neither",
        "Rate of absolutist words (always, never, completely)",
        "Instructions and mathematics use many of them without any tone.",
    ),
    _lexical(
        "hedges",
        "neither",
        "Rate of hedges (perhaps, might, it seems)",
        "Says nothing of whether the doubt is warranted; may and could also express permission and ability.",
    ),
    _lexical(
        "boosters",
        "neither",
        "Rate of certainty markers and intensifiers (certainly, definitely, of course)",
        "Says nothing of whether the certainty is warranted.",
    ),
    _lexical(
        "apologies",
        "neither",
        "Rate of apologies (sorry, I apologize, my mistake)",
        "Politeness formulas and refusals count the same as an admitted mistake.",
    ),
    _lexical(
        "self_blame",
        "worse",
        "Rate of self-blaming and self-belittling phrases (it's all my fault, I am a failure)",
        "Not clinical: a marker of how a text is worded, not of any state of its writer. Fiction counts too. "
        "Rare, so compare means over many documents.",
    ),
    _lexical(
        "flattery",
        "worse",
        "Rate of praise addressed to the reader (great question, you're absolutely right, your insight)",
        "Deserved praise counts the same as empty praise.",
    ),
    _lexical(
        "gratitude",
        "neither",
        "Rate of thanks (thank you, I appreciate)",
        "Letters drafted for the user contain them as well.",
    ),
    _surface("exclaims", "Exclamation marks ('!')", "Code (!=, !important) counts too."),
    _surface("questions", "Question marks ('?')", "Code and URLs count too."),
    _surface(
        "caps",
        "Words in capitals (two capital letters at least and no small one, so a lone I or A is none)",
        "Acronyms, headings and code constants count too.",
    ),
    _count(
        "n_bytes", "bytes", "neither", "Length of the text in UTF-8 bytes, as stored.", "Not a number of characters."
    ),
    _count(
        "n_words",
        "words",
        "neither",
        "Number of whitespace-separated words; the denominator of all rates per 100 words.",
        "Near zero for scripts written without spaces, which makes their rates meaningless.",
    ),
    _count(
        "n_segments",
        "segments",
        "neither",
        "Number of sentence-like segments; code blocks, tables and URLs are segments of their own.",
        "Counted only with a model. Every line break ends a segment.",
    ),
    _count(
        "n_tokens",
        "tokens",
        "neither",
        "Number of the model's tokens (word pieces) in the text, code included, without special tokens.",
        "Counted only with a model. Not the tokens of the model that wrote the text.",
    ),
    replace(
        _count(
            "truncated",
            "flag",
            "worse",
            "1 where a text was longer than the model takes and its end was left out, else 0.",
            "Only encoders with --long truncate leave anything out.",
        ),
        range=(0.0, 1.0),
    ),
    _count(
        "n_invalid_bytes",
        "bytes",
        "worse",
        "Number of bytes that are not part of valid UTF-8; they are scored as U+FFFD.",
        "Binary columns and string columns that nobody validated can hold invalid UTF-8.",
    ),
    *emonet.entries(),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}
"""Every metric by name, in the order of the output columns."""

GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(m.name for m in _ENTRIES if m.group == group) for group in dict.fromkeys(m.group for m in _ENTRIES)
}
"""The names of the metrics of each group, in the order of the output columns."""


def select(
    names: str | Iterable[str] = "default",
    heads: Sequence[Head] | None = None,
    taxonomies: str | Iterable[str] = (),
    counts: Sequence[str] = _OF_TOKENS,
) -> list[Metric]:
    """Return the metrics that names stand for, in output order whatever the order of the names, each once.

    Parameters
    ----------
    names
        ``"default"`` (every metric but those of the taxonomies and EmoNet's), the name of a metric or group, several of
        them separated by commas, or an iterable of names.
    heads
        Heads of the model, whose columns can be chosen, too; what needs a model and none of them gives is left out of
        ``default``, and an error where it is named. None: whatever the embedded models can.
    taxonomies
        Names of taxonomies whose columns to add.
    counts
        Names of the integer columns that come with the heads' scores.

    Returns
    -------
    list of Metric

    Raises
    ------
    UsageError
        If a name is unknown (the message proposes the nearest one), needs another model, no name is given, or a column
        of the heads is called like another metric.
    """
    known = {**METRICS, **({} if heads is None else _of_heads(heads))}
    groups: dict[str, list[str]] = {}
    for metric in known.values():
        groups.setdefault(metric.group, []).append(metric.name)
    there = None if heads is None else {column for head in heads for column in head.columns}
    can = {name for name, metric in known.items() if there is None or _computable(metric, there, counts)}
    wanted: set[str] = set()
    for name in _split(names):
        if name == "default":
            found = [n for n, m in known.items() if m.group not in ON_REQUEST and n in can]
        elif name in known:
            found = [name]
        elif name in groups:
            found = [n for n in groups[name] if n in can] or groups[name]
        else:
            close = difflib.get_close_matches(name, [*known, *groups, "default"], n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(
                f"unknown metric {name!r}: {hint}affectcore metrics lists all; the groups are {', '.join(groups)}; "
                "and default stands for all but those that must be asked for"
            )
        if not can.issuperset(found):
            needs = "a model with heads for it: --model static and mini have them"
            if name == "truncated":
                needs = "an encoder and --long truncate: nothing is left out otherwise"
            raise UsageError(f"metric {name!r} needs {needs}")
        wanted.update(found)
    for name in _split(taxonomies):
        if name not in taxonomy.TAXONOMIES:
            raise UsageError(f"unknown taxonomy {name!r}: there are {', '.join(taxonomy.TAXONOMIES)}")
        if not can.issuperset(groups[name]):
            raise UsageError(
                f"taxonomy {name!r} needs a model with the emotions of GoEmotions: --model static and mini have them"
            )
        wanted.update(groups[name])
    if not wanted:
        raise UsageError("no metric was named: give at least one, or default for all")
    return [metric for name, metric in known.items() if name in wanted]


def _split(names: str | Iterable[str]) -> list[str]:
    given = names.split(",") if isinstance(names, str) else list(names)
    return [name.strip() for name in given if name.strip()]


def _computable(metric: Metric, there: set[str], counts: Sequence[str]) -> bool:
    """Tell whether columns of heads are enough to compute a metric."""
    if not metric.needs_model:
        return True
    if metric.name in _OF_TOKENS:
        return bool(there) and metric.name in counts
    if metric.group in taxonomy.TAXONOMIES:
        return there.issuperset(GROUPS["emotion"])
    return metric.name in there


def _of_heads(heads: Iterable[Head]) -> dict[str, Metric]:
    """Describe the columns of a user's own heads."""
    own = {}
    for head in heads:
        for label, column in zip(head.labels, head.columns):
            if column in METRICS and METRICS[column].group not in ("emotion", "vad"):
                raise UsageError(
                    f"the head {head.name!r} has a column {column!r}, which is another metric's: "
                    "train it under another name"
                )
            if column not in METRICS:
                regression = head.kind == "regression"
                limits = tuple(None if math.isinf(end) else end for end in (head.low, head.high))
                own[column] = Metric(
                    name=column,
                    version=1,
                    unit="score" if regression else "probability",
                    range=(limits[0], limits[1]) if regression else (0.0, 1.0),
                    dtype="float32",
                    group=head.name,
                    higher_is="neither",
                    definition=f"Output {label} of the head {head.name}.",
                    source=str(head.info.get("source", "a head that affectcore train fitted")),
                    validated_on="see affectcore models DIRECTORY",
                    limits="See the model's card.",
                )
    return own
