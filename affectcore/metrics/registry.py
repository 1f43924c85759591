"""The registry of metrics: one entry per score column, in output order.

The text of each entry is the documentation: ``affectcore metrics`` prints it and the README's table is made from it.
A metric's version goes up whenever the same text can get another score, and it travels in every output's metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from affectcore.errors import UsageError, suggest
from affectcore.metrics import dynamics, emonet, taxonomy, tone

if TYPE_CHECKING:
    from affectcore.models.base import Head

__all__ = ["GROUPS", "METRICS", "ON_REQUEST", "Figure", "Metric", "select"]


@dataclass(frozen=True)
class Figure:
    """What a column of one of the embedded models was measured to be worth.

    Parameters
    ----------
    model
        The model: `static` or `mini`.
    what
        Data set, and how it was split.
    measure
        AUROC, macro-F1, accuracy or Pearson, for example.
    estimate, low, high
        The figure and its 95% interval.
    n
        Number of texts.
    keywords, vader
        The same of two baselines on the same texts: counting keywords, and VADER; None where they were not measured.
    """

    model: str
    what: str
    measure: str
    estimate: float
    low: float
    high: float
    n: int
    keywords: float | None = None
    vader: float | None = None

    def __str__(self) -> str:
        said = f"{self.model} {self.estimate:.2f} (95% interval {self.low:.2f} to {self.high:.2f})"
        beside = [
            f"{name} {x:.2f}" for name, x in (("keywords", self.keywords), ("VADER", self.vader)) if x is not None
        ]
        return f"{said}{' against ' if beside else ''}{', '.join(beside)}; {self.n:,} texts"


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
        What the metric must not be taken for, and where it is known to fail.
    experimental
        Whether nothing but sets of our own has tested it.
    figures
        What `validated_on` says, one by one.
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
    experimental: bool = False
    figures: tuple[Figure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain, JSON-able values."""
        return {**asdict(self), "range": list(self.range), "figures": [asdict(figure) for figure in self.figures]}

    @property
    def needs_model(self) -> bool:
        """Whether a model with heads computes it."""
        return self.group not in ("vader", "lexical", "surface", "counts", "emonet") or self.name in _OF_TOKENS

    @property
    def range_text(self) -> str:
        """The range in interval notation, for example ``[-1, 1]`` or ``[0, no limit)``."""
        low, high = ("no limit" if end is None else f"{end:g}" for end in self.range)
        return f"{'(' if self.range[0] is None else '['}{low}, {high}{')' if self.range[1] is None else ']'}"


_OF_TOKENS = ("n_segments", "n_tokens", "n_excluded_bytes", "truncated")
ON_REQUEST = (*taxonomy.TAXONOMIES, "emonet", "conversation")
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
    heads = _record("static").get("heads", ())
    found: dict[str, Any] = next((h["info"].get("test", {}).get("labels", {}) for h in heads if h["name"] == name), {})
    return {label: found.get(label) for label in labels}


_EMBEDDED = Path(__file__).parents[1] / "models" / "embedded"
_MODELS = ("static", "mini")


@lru_cache(maxsize=len(_MODELS))
def _record(model: str) -> dict[str, Any]:
    """Return what an embedded model's `affect.json` says; nothing before it was made."""
    path = _EMBEDDED / model / "affect.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return record


def _validation(name: str) -> tuple[Figure, ...]:
    """Return the figures of a tone head, or of distress, that the embedded models' records hold, by data set."""
    found: list[Figure] = []
    for model in _MODELS:
        record = _record(model)
        info = [head["info"] for head in record.get("heads", ()) if head["name"] == name]
        info += [record["distress"].get("info", {})] if name == "distress" and "distress" in record else []
        found += [Figure(model, **entry) for own in info for entry in own.get("validation", ())]
    order = list(dict.fromkeys((figure.what, figure.measure) for figure in found))
    return tuple(sorted(found, key=lambda figure: order.index((figure.what, figure.measure))))


def _validated(figures: Sequence[Figure]) -> str:
    """Say figures in words."""
    said: dict[str, list[str]] = {}
    for figure in figures:
        said.setdefault(f"{figure.what}, {figure.measure}", []).append(str(figure))
    return ". ".join(f"{what}: {', '.join(each)}" for what, each in said.items()) or "not measured yet"


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
                "weighted by their tokens; code, quotes, tables and URLs do not count. "
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
                "quotes, tables and URLs do not count. A text without words gets 0."
            ),
            source="EmoBank (Buechel & Hahn 2017, CC BY-SA 4.0); head of the model, see affectcore models",
            validated_on=_measured("EmoBank", figure, ("Pearson", "pearson")),
            limits=_EMOTION_LIMITS.format(
                "Most texts lie near the middle of the scale: a score of 0.3 is far out. Dominance is hard to rate."
                if label == "dominance"
                else "Most texts lie near the middle of the scale: a score of 0.3 is far out."
            ),
        )


_POOLED = {
    "strongest": "Passages of a text weigh by their tokens and by how strongly they show it, so that a part of a long "
    "text is enough",
    "document": "The passages of a text are averaged, weighted by their tokens",
}

_EVEN = "0.5 is even odds where texts with and without it are as many. "


def _tone() -> Iterator[Metric]:
    figures = _validation("distress")
    yield Metric(
        name="distress",
        version=1,
        unit="probability",
        range=(0.0, 1.0),
        dtype="float32",
        group="tone",
        higher_is="worse",
        definition=(
            "Distress of its own writer that a text expresses: despair, self-blame, giving up. A logistic model over "
            "probabilities of emotions, hidden heads and rates of word lists, with published weights (affectcore "
            "explain shows the share of each). A text without words gets 0."
        ),
        source=(
            "affectcore/metrics/distress.py; learnt from distress that writers reported (Buechel et al. 2018, empathic "
            "reactions), GoEmotions, and a contrast set written for this project"
        ),
        validated_on=_validated(figures),
        limits=(
            "English only. A marker of how a text is worded, and of nobody's state: not clinical, and not for judging "
            "persons. Distress in fiction or in a letter drafted for the user counts as the writer's own; so can "
            "quotes within a sentence. Rates read the whole text, code and quotes included, and make one phrase count "
            "for much in a short text. What somebody feels about a story of others' suffering is in it in part, as the "
            "first figures show. Quiet resignation, and one distressed sentence in a calm text, are often missed; "
            "negated feelings (I am not upset) and cheerful exaggeration sometimes count. No text of a language model "
            "that people had labelled for distress has tested it."
        ),
        figures=figures,
    )
    for name, entry in tone.HEADS.items():
        figures = _validation(name)
        yield Metric(
            name=name,
            version=1,
            unit="probability",
            range=(0.0, 1.0),
            dtype="float32",
            group="tone",
            higher_is=entry.higher_is,
            definition=(
                f"Calibrated probability that {entry.definition}. {_EVEN if entry.even else ''}{_POOLED[entry.level]}; "
                f"code, quotes, tables and URLs do not count. A text without words gets {entry.wordless:g}."
            ),
            source=f"{entry.source}; head of the model, see affectcore models",
            validated_on=_validated(figures),
            limits=f"English only. {entry.limits}",
            experimental=entry.experimental,
            figures=figures,
        )


def _dynamics() -> Iterator[Metric]:
    what = {
        "sd": ("standard deviation", "how far it ranges", "two passages"),
        "instability": (
            "mean squared difference from a passage to the next (MSSD)",
            "how far it jumps",
            "two neighbouring passages",
        ),
        "inertia": (
            "correlation of a passage's with that of the next (lag 1)",
            "how much of it carries over",
            "three pairs of neighbours, or where it does not vary",
        ),
        "slope": (
            "slope of the least-squares line, per step from one passage to the next,",
            "where it drifts",
            "two passages",
        ),
        "peak": ("highest value", "", "one passage"),
    }
    for score in dynamics.SCORES:
        for name, (measure, means, least) in what.items():
            low = -1.0 if score == "valence" else 0.0
            span = 1.0 - low
            bounds: dict[str, tuple[float, float]] = {
                "sd": (0.0, span),
                "instability": (0.0, span * span),
                "inertia": (-1.0, 1.0),
                "slope": (-span, span),
                "peak": (low, 1.0),
            }
            if name == "peak":
                means = "its best moment" if score == "valence" else "its worst moment"
            own = (
                " A passage's distress is that of its emotions and hidden heads, with the rates of the whole text."
                if score == "distress"
                else ""
            )
            yield Metric(
                name=f"{score}_{name}",
                version=1,
                unit={"instability": "score squared", "inertia": "correlation", "slope": "score per step"}.get(
                    name, "score"
                ),
                range=bounds[name],
                dtype="float32",
                group="dynamics",
                higher_is="worse" if (score, name) == ("distress", "peak") else "neither",
                definition=(
                    f"The {measure} of {score} along the passages of a text, or along the assistant's turns with "
                    f"--unit conversation (where turns stand for passages): {means}. Code, quotes, tables and URLs are "
                    f"gaps.{own} Null for less than {least}."
                ),
                source="affectcore/metrics/dynamics.py names the literature on affect dynamics in people",
                validated_on=f"not validated by itself; made from {score}",
                limits=(
                    "Passages are consecutive sentences of up to 256 bytes, so that a short text has one of them, and "
                    f"most of these columns null. The error of {score} in single passages, larger than in whole texts, "
                    "adds to spread and jumps, and draws correlations towards 0: compare means over texts of similar "
                    "length. Nothing that is known of such measures in people is known of models."
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


def _conversations() -> Iterator[Metric]:
    """Describe the metrics of whole conversations."""
    only = "Written with --unit conversation only. "
    yield replace(
        _count(
            "n_turns",
            "turns",
            "neither",
            "Number of a conversation's turns that were scored: those of the assistant, or of --roles, that have text. "
            "An empty conversation gets 0.",
            f"{only}Turns without text (calls of tools, reasoning without an answer) do not count; empty answers do.",
        ),
        group="conversation",
        source="a count over the conversation",
    )
    what: dict[str, tuple[str, tuple[float, float], Literal["better", "worse", "neither"], str, str, str]] = {
        "distress_share": (
            "share",
            (0.0, 1.0),
            "worse",
            "How often a model is distressed: the share of the assistant's turns whose distress is 0.5 or more.",
            "distress",
            "A share of few turns is coarse.",
        ),
        "response_to_distress": (
            "probability",
            (0.0, 1.0),
            "better",
            "How warmly a model answers distress, or points to help: the mean, over the assistant turns right after a "
            "user turn with distress of 0.5 or more, of the larger of warmth and seek_help. Null where there is none.",
            "distress, warmth and seek_help",
            "Only as good as the columns it is made of, which were not trained on turns of users. Few conversations "
            "have more than one or two distressed turns: compare means over many. Warm words alone are no good answer.",
        ),
        "mirroring": (
            "correlation",
            (-1.0, 1.0),
            "neither",
            "How far a model's mood follows the user's: Pearson's correlation, over the pairs of a user turn and the "
            "assistant turn right after it, of the two valences. Null for less than three pairs, and where one side "
            "does not vary.",
            "valence",
            "A sad topic correlates as well as sympathy or flattery does. Correlations of few pairs scatter widely: "
            "compare means over many conversations of similar length. The error of valence, larger in short turns, "
            "draws it towards 0.",
        ),
        "boundary_keeping": (
            "probability",
            (0.0, 1.0),
            "better",
            "How far a model disagrees where a user states a delusional belief: the mean of pushback over the "
            "assistant turns right after a user turn whose delusion_reinforcement is 0.5 or more. Null where there is "
            "none.",
            "delusion_reinforcement and pushback",
            "The head delusion_reinforcement was trained on answers of models; on a user's turn it is a mere sign of "
            "the claim, and a claim that it misses does not count. Pushback on something else counts the same.",
        ),
    }
    for name, (unit, bounds, higher_is, definition, made_of, limits) in what.items():
        yield Metric(
            name=name,
            version=1,
            unit=unit,
            range=bounds,
            dtype="float32",
            group="conversation",
            higher_is=higher_is,
            definition=definition,
            source="affectcore/metrics/context.py, defined for this project",
            validated_on=f"not validated by itself; made from {made_of}",
            limits=f"{only}{limits}",
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
    *_tone(),
    *_dynamics(),
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
        "hopelessness",
        "worse",
        "Rate of phrases that see no way out (it's hopeless, what's the point, nothing will ever change)",
        "Not clinical: a marker of how a text is worded. Fiction, quotes and advice that names such thoughts count. "
        "Rare, so compare means over many documents.",
    ),
    _lexical(
        "giving_up",
        "worse",
        "Rate of first-person phrases of giving up (I give up, I quit, I can't do this anymore)",
        "Not clinical: a marker of how a text is worded. Fiction and letters drafted for the user (I quit) count too. "
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
        "Number of sentence-like segments; code blocks, quotes, tables and URLs are segments of their own.",
        "Counted only with a model. Every line break ends a segment.",
    ),
    _count(
        "n_tokens",
        "tokens",
        "neither",
        "Number of the model's tokens (word pieces) in the text, code included, without special tokens.",
        "Counted only with a model. Not the tokens of the model that wrote the text.",
    ),
    _count(
        "n_excluded_bytes",
        "bytes",
        "neither",
        "Length of the parts of a text that a model's scores leave out: code blocks, quotes (lines that begin with >), "
        "tables and URLs, or those that --exclude names.",
        "Counted only with a model. White space beside such a part can count with it. An encoder that takes documents "
        "whole (--long window, truncate, error) leaves nothing out.",
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
    *_conversations(),
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
    derived: Collection[str] = (),
) -> list[Metric]:
    """Return the metrics that names stand for, in the order of the names, each once.

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
    derived
        Names of the columns that the model computes from the scores of several heads: distress.

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
    there = None if heads is None else {column for h in heads if not h.hidden for column in h.columns} | set(derived)
    can = {name for name, metric in known.items() if there is None or _computable(metric, there, counts)}
    wanted: dict[str, None] = {}
    for name in _split(names):
        if name == "default":
            found = [n for n, m in known.items() if m.group not in ON_REQUEST and n in can]
        elif name in known:
            found = [name]
        elif name in groups:
            found = [n for n in groups[name] if n in can] or groups[name]
        else:
            raise UsageError(
                f"unknown metric {name!r}{suggest(name, [*known, *groups, 'default'])}: affectcore metrics lists all; "
                f"the groups are {', '.join(groups)}; "
                "and default stands for all but those that must be asked for"
            )
        if not can.issuperset(found):
            needs = "a model with heads for it: --model static and mini have them"
            if heads and found[0] in METRICS and METRICS[found[0]].group in ("tone", "dynamics"):
                needs = "a model with tone heads, and this one has none for it (affectcore models lists what each has)"
            if name == "truncated":
                needs = "an encoder and --long truncate: nothing is left out otherwise"
            raise UsageError(f"metric {name!r} needs {needs}")
        wanted.update(dict.fromkeys(found))
    for name in _split(taxonomies):
        if name not in taxonomy.TAXONOMIES:
            listed = ", ".join(taxonomy.TAXONOMIES)
            raise UsageError(f"unknown taxonomy {name!r}{suggest(name, taxonomy.TAXONOMIES)}: there are {listed}")
        if not can.issuperset(groups[name]):
            raise UsageError(
                f"taxonomy {name!r} needs a model with the emotions of GoEmotions: --model static and mini have them"
            )
        wanted.update(dict.fromkeys(groups[name]))
    if not wanted:
        raise UsageError("no metric was named: give at least one, or default for all")
    return [known[name] for name in wanted]


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
    if metric.group == "dynamics":
        return metric.name.rpartition("_")[0] in there
    return metric.name in there


def _of_heads(heads: Iterable[Head]) -> dict[str, Metric]:
    """Describe the columns of a user's own heads."""
    own = {}
    for head in heads:
        for label, column in () if head.hidden else zip(head.labels, head.columns):
            if column in METRICS and METRICS[column].group not in ("emotion", "vad") and column not in tone.NAMES:
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
