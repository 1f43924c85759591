"""Distress: a small logistic model over what else is known of a text, so that every score can be explained.

    distress = 1 / (1 + exp(-x)),    x = bias + sum of weight * feature

The features are, as the model's record names them:

- calibrated probabilities of emotions (``emotion_sadness``) of the unit;
- logits of hidden heads, whose names begin with an underscore (``_distress_voice``): pooled as their level says, before
  any calibration; such heads have no column of their own;
- rates of word lists (``self_blame``) per 100 words, each at most `CAP`: one phrase in a short text is no proof.

Bias and weights are published in the model's ``affect.json``. Distress is what a text expresses of its own writer's; it
is no measure of any state, and not clinical. A text without words has distress 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from affectcore.metrics import dynamics

if TYPE_CHECKING:
    from affectcore.models.base import Head, Model

__all__ = ["CAP", "Distress", "contributions", "index"]

_COLUMNS = {"distress"} | dynamics.names("distress")

CAP = 10.0
"""The most that a rate per 100 words counts for."""


@dataclass(frozen=True)
class Distress:
    """The logistic model.

    Parameters
    ----------
    version
        Goes up by one whenever a text can get another score.
    bias
        The logit where all features are 0.
    weights
        Feature to weight.
    info
        Training data and measured quality; goes into `affect.json` as it is.
    """

    version: int
    bias: float
    weights: dict[str, float]
    info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Distress:
        """Return what `affect.json` says under `distress`."""
        weights = {name: float(weight) for name, weight in record["weights"].items()}
        return cls(int(record["version"]), float(record["bias"]), weights, dict(record.get("info", {})))

    def to_record(self) -> dict[str, Any]:
        """Return plain values for `affect.json`."""
        return {"version": self.version, "bias": self.bias, "weights": self.weights, "info": self.info}

    @cached_property
    def rates(self) -> tuple[str, ...]:
        """Names of the word lists among the features."""
        from affectcore.lexicons import LISTS

        return tuple(name for name in self.weights if name in LISTS)

    @cached_property
    def by_row(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of features, counted from 1, that `CAP` holds for, int64, and the weights, float64 (features, 1)."""
        rows = [row for row, name in enumerate(self.weights, 1) if name in self.rates]
        return np.array(rows, np.int64), np.array([*self.weights.values()], np.float64)[:, None]

    def computable(self, heads: Iterable[Head]) -> bool:
        """Tell whether some heads, and the word lists, have all features."""
        there = {column for head in heads for column in head.columns} | set(self.rates)
        return there.issuperset(self.weights)


def asked(names: Collection[str]) -> bool:
    """Tell whether columns need distress: its own, or those of how it goes along a text."""
    return not _COLUMNS.isdisjoint(names)


def contributions(columns: Mapping[str, np.ndarray], model: Model) -> dict[str, np.ndarray]:
    """Return what each feature adds to the logit.

    Parameters
    ----------
    columns
        float32 (n,) of each feature, by name: probabilities, logits of hidden heads, and rates.
    model
        A model with a record of distress.

    Returns
    -------
    dict
        Feature to float64 (n,), in the order of the record, after ``bias``, which is (n,) too.

    Raises
    ------
    ValueError
        If the model has no distress, or a feature is missing.
    """
    x = _terms(columns, model)
    assert model.distress is not None
    return dict(zip(("bias", *model.distress.weights), x))


def _terms(columns: Mapping[str, np.ndarray], model: Model) -> np.ndarray:
    """Return the bias and what each feature adds to the logit, float64 (1 + features, n)."""
    if model.distress is None:
        raise ValueError(f"model {model.name} has no distress")
    own = model.distress
    missing = [name for name in own.weights if name not in columns]
    if missing:
        raise ValueError(f"distress needs the columns {', '.join(missing)}")
    n = len(columns[next(iter(own.weights))]) if own.weights else 0
    x = np.empty((1 + len(own.weights), n))
    x[0] = own.bias
    for row, name in enumerate(own.weights, 1):
        x[row] = columns[name]
    capped, weights = own.by_row
    x[capped] = np.minimum(x[capped], CAP)
    x[1:] *= weights
    return x


def index(columns: Mapping[str, np.ndarray], model: Model) -> np.ndarray:
    """Return distress, float32 (n,), from columns as `contributions` takes them; NaN where a feature is NaN."""
    # One term after the other, whatever n: `sum` would add the terms of a single text in another order.
    x = np.cumsum(_terms(columns, model), axis=0)[-1]
    found: np.ndarray = (0.5 * (1 + np.tanh(0.5 * x))).astype(np.float32)  # the logistic function, without overflow
    return found
