"""The registry of metrics: one entry per score column, in output order.

The text of each entry is the documentation: ``affectcore metrics`` prints it and the README's table is made from it.
A metric's version goes up whenever the same text can get another score, and it travels in every output's metadata.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from affectcore.errors import UsageError

__all__ = ["GROUPS", "METRICS", "Metric", "select"]


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
    def range_text(self) -> str:
        """The range in interval notation, for example ``[-1, 1]`` or ``[0, no limit)``."""
        low, high = ("no limit" if end is None else f"{end:g}" for end in self.range)
        return f"{'(' if self.range[0] is None else '['}{low}, {high}{')' if self.range[1] is None else ']'}"


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
        "n_invalid_bytes",
        "bytes",
        "worse",
        "Number of bytes that are not part of valid UTF-8; they are scored as U+FFFD.",
        "Binary columns and string columns that nobody validated can hold invalid UTF-8.",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}
"""Every metric by name, in the order of the output columns."""

GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(m.name for m in _ENTRIES if m.group == group) for group in dict.fromkeys(m.group for m in _ENTRIES)
}
"""The names of the metrics of each group, in the order of the output columns."""


def select(names: str | Iterable[str] = "default") -> list[Metric]:
    """Return the metrics that names stand for, in output order whatever the order of the names, each once.

    Parameters
    ----------
    names
        ``"default"`` (every metric), the name of a metric or group, several of them separated by commas, or an
        iterable of names.

    Returns
    -------
    list of Metric

    Raises
    ------
    UsageError
        If a name is unknown (the message proposes the nearest one) or no name is given.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    wanted: set[str] = set()
    for name in filter(None, (raw.strip() for raw in given)):
        if name == "default":
            wanted.update(METRICS)
        elif name in METRICS:
            wanted.add(name)
        elif name in GROUPS:
            wanted.update(GROUPS[name])
        else:
            close = difflib.get_close_matches(name, [*METRICS, *GROUPS, "default"], n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(
                f"unknown metric {name!r}: {hint}known are the metrics {', '.join(METRICS)}; "
                f"the groups {', '.join(GROUPS)}; and default for all"
            )
    if not wanted:
        raise UsageError("no metric was named: give at least one, or default for all")
    return [metric for metric in _ENTRIES if metric.name in wanted]
