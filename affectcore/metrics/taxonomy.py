"""Coarser taxonomies made from the 28 labels of GoEmotions, and back.

A coarse label stands for some labels of GoEmotions: it is expressed where one of them is. Its probability is the
highest of theirs. With only the single probabilities known, that of "at least one" lies between their maximum and their
sum; it is the maximum where the labels are nested, and close to it where one of them outweighs the others, as in most
texts of one emotion. Treating the labels as independent (1 - the product of the 1 - p, noisy-or) adds up the small
probabilities of many absent labels instead: twelve of 0.05 would make 0.46. So coarse probabilities are lower bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GOEMOTIONS", "TAXONOMIES", "Taxonomy", "convert"]

GOEMOTIONS = tuple(
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
    "disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride realization relief "
    "remorse sadness surprise neutral".split()
)
"""The labels of GoEmotions (Demszky et al. 2020), in the order of its label numbers."""


@dataclass(frozen=True)
class Taxonomy:
    """A coarser set of labels.

    Parameters
    ----------
    name
        Name that selects it.
    mapping
        Each of its labels, in output order, and the labels of GoEmotions that it stands for, in GoEmotions' order. One
        of those can stand under several labels, or under none.
    source
        Where the mapping comes from.
    combine
        How the probabilities of the labels become one.
    """

    name: str
    mapping: Mapping[str, tuple[str, ...]]
    source: str
    combine: str = "maximum: a lower bound of the probability that at least one of the labels is expressed"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in output order."""
        return tuple(self.mapping)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the score columns, in output order."""
        return tuple(f"{self.name}_{label}" for label in self.mapping)

    def coarse(self, label: str) -> tuple[str, ...]:
        """Return the labels that a label of GoEmotions counts for: none to several.

        Raises
        ------
        ValueError
            If GoEmotions has no such label.
        """
        if label not in GOEMOTIONS:
            raise ValueError(f"GoEmotions has no label {label!r}: choose from {', '.join(GOEMOTIONS)}")
        return tuple(coarse for coarse, members in self.mapping.items() if label in members)


def _taxonomy(name: str, source: str, mapping: dict[str, str]) -> Taxonomy:
    parts = {label: tuple(sorted(members.split(), key=GOEMOTIONS.index)) for label, members in mapping.items()}
    return Taxonomy(name, MappingProxyType(parts), source)


_POSITIVE = "admiration amusement approval caring desire excitement gratitude joy love optimism pride relief"
_AMBIGUOUS = "confusion curiosity realization surprise"

TAXONOMIES: Mapping[str, Taxonomy] = MappingProxyType(
    {
        taxonomy.name: taxonomy
        for taxonomy in (
            _taxonomy(
                "ekman",
                "the mapping of Demszky et al. 2020 (GoEmotions; its ekman_mapping.json) to Ekman's six emotions, and "
                "neutral",
                {
                    "anger": "anger annoyance disapproval",
                    "disgust": "disgust",
                    "fear": "fear nervousness",
                    "joy": _POSITIVE,
                    "sadness": "sadness disappointment embarrassment grief remorse",
                    "surprise": _AMBIGUOUS,
                    "neutral": "neutral",
                },
            ),
            # Where the wheel of Plutchik (1980; 2001, The Nature of Emotions) names a label, its place there decides:
            # - degrees: annoyance and anger; apprehension (nervousness) and fear; sadness and grief; acceptance
            #   (approval) and admiration of trust; interest (curiosity) of anticipation;
            # - primary dyads count for both of their parts: love = joy + trust, optimism = anticipation + joy,
            #   remorse = sadness + disgust.
            # Where GoEmotions means another thing by the word, its own definition decides:
            # - disapproval ("an unfavorable opinion"; the wheel: surprise + sadness) is mild anger, as in Ekman's;
            # - pride ("pleasure due to one's own achievements"; the wheel: anger + joy) is joy.
            # What the wheel does not name goes by GoEmotions' definition: excitement ("enthusiasm and eagerness") is
            # joy and anticipation, desire ("wishing for something to happen") anticipation, caring ("kindness and
            # concern for others") trust, gratitude joy and trust, amusement and relief joy, realization and confusion
            # surprise, disappointment and embarrassment sadness (the last four as in Ekman's). Neutral is no emotion.
            _taxonomy(
                "plutchik",
                "written for this project after Plutchik's wheel (Plutchik 2001, The Nature of Emotions, American "
                "Scientist 89) and the definitions in Demszky et al. 2020 (GoEmotions)",
                {
                    "anger": "anger annoyance disapproval",
                    "anticipation": "curiosity desire excitement optimism",
                    "disgust": "disgust remorse",
                    "fear": "fear nervousness",
                    "joy": "amusement excitement gratitude joy love optimism pride relief",
                    "sadness": "disappointment embarrassment grief remorse sadness",
                    "surprise": _AMBIGUOUS.replace("curiosity ", ""),
                    "trust": "admiration approval caring gratitude love",
                },
            ),
            # The paper's fourth group, ambiguous, is neither pleasant nor unpleasant: it counts as neutral.
            _taxonomy(
                "sentiment",
                "the groups of Demszky et al. 2020 (GoEmotions; its sentiment_mapping.json); its ambiguous labels "
                "count as neutral",
                {
                    "positive": _POSITIVE,
                    "negative": "anger annoyance disappointment disapproval disgust embarrassment fear grief "
                    "nervousness remorse sadness",
                    "neutral": f"{_AMBIGUOUS} neutral",
                },
            ),
        )
    }
)
"""The taxonomies by name."""


def convert(probabilities: np.ndarray, name: str) -> np.ndarray:
    """Turn probabilities of GoEmotions' labels into those of a coarser taxonomy.

    Parameters
    ----------
    probabilities
        float32 (n, 28): a column per label of `GOEMOTIONS`. A NaN makes NaN of the labels it counts for.
    name
        Name from `TAXONOMIES`.

    Returns
    -------
    array
        float32 (n, k): a column per label of the taxonomy, the highest probability of the labels it stands for.

    Raises
    ------
    ValueError
        If there is no such taxonomy, or the array has no 28 columns.
    """
    import numpy as np

    if name not in TAXONOMIES:
        raise ValueError(f"unknown taxonomy {name!r}: choose from {', '.join(TAXONOMIES)}")
    if probabilities.ndim != 2 or probabilities.shape[1] != len(GOEMOTIONS):
        raise ValueError(f"probabilities have the shape {probabilities.shape}; it must be (n, {len(GOEMOTIONS)})")
    members = TAXONOMIES[name].mapping.values()
    out = np.empty((len(probabilities), len(members)), np.float32)
    for k, labels in enumerate(members):
        out[:, k] = probabilities[:, [GOEMOTIONS.index(label) for label in labels]].max(axis=1)
    return out
