"""Linear models of signals with few labels: ridge regression, with a penalty for each kind of signal.

A signal's penalty says how much it is trusted before anything was seen: in labels, how many it takes until half of an effect
of a standardised signal is believed. With one-hot tags this is the mean of each tag's group, shrunk toward the mean of all by so
many labels; with hashed words it is a vote of the neighbours in the fit half, weighed by the words that they share.
The penalties are fixed (chosen once, on recorded workloads: docs/design/tuning.md), so that nothing is tuned on a user's few labels. All are solved in
the dual (Saunders, Gammerman and Vovk 1998), whose size is the number of labels; the error of leaving one out is exact (Allen 1974).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from orchestrion.policy.signals import form_of

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

PENALTY = {"tag": 30.0, "answer": 30.0, "text": 10.0, "share": 3.0, "agree": 3.0, "distinct": 3.0, "verdict": 3.0}
"""In labels, by the form of a signal."""

OTHER = 15.0
"""The penalty of lengths, tokens, costs and latencies."""

AS_IS = frozenset({"tag", "answer", "text"})
"""Signals that are not standardised: they are rare, and their scale means something."""

MOST_LEVERAGE = 0.95

LEAST_DEVIATION = 1e-3
"""A signal that varies less says nothing; all are logarithms, shares or counts, so this is little for any of them."""


class Matrix:
    """Signals of all tasks, one row a task, scaled by their penalties. ``fit`` are the indices of the tasks with labels to learn
    from, shape (n,). Signals of the prompt are worked out once, and stand ``beside`` those of each stage."""

    def __init__(self, rows: Sequence[Mapping[str, float]], fit: Indices) -> None:
        self.names, values = _matrix(rows)
        self.scale = _scales(self.names, values[fit])
        self.x = values @ sparse.diags_array(self.scale)
        self.x_fit = self.x[fit]
        self.gram: Floats = np.asarray((self.x_fit @ self.x_fit.T).todense())


class Design:
    """What the models of a stage may look at: one or several matrices of the same tasks, whose signals have different names."""

    def __init__(self, parts: Sequence[Matrix]) -> None:
        self.parts = parts
        self.gram = np.sum([part.gram for part in parts], axis=0)
        self._regressions: dict[bytes, Regression] = {}

    def on(self, train: Indices) -> Regression:
        """The regression on a part of the fit half, named by positions in ``fit``; worked out once for each part."""
        key = train.tobytes()
        if key not in self._regressions:
            self._regressions[key] = Regression(self, train)
        return self._regressions[key]


class Regression:
    """Ridge regression with an intercept on a part of the fit half."""

    def __init__(self, design: Design, train: Indices) -> None:
        self.design = design
        self.train = train
        n = len(train)
        columns = design.gram[:, train]
        own = columns[train]
        self.centred = columns - columns.mean(axis=1, keepdims=True) - own.mean(axis=0) + own.mean()  # (fit, train)
        kernel = self.centred[train]
        self.inverse = np.linalg.inv(kernel + np.eye(n))
        leverage = np.minimum(np.einsum("ij,ji->i", kernel, self.inverse) + 1 / n, MOST_LEVERAGE)
        self.left = 1 / (1 - leverage)[:, None]

    def learn(self, y: Floats) -> Learned:
        """Regress ``y``, shape (fit, targets), of which the rows of the part are looked at."""
        own = y[self.train]
        return Learned(self, own, self.inverse @ (own - own.mean(axis=0)))


class Learned:
    """What was learned of some targets: a linear function of the signals for each."""

    def __init__(self, regression: Regression, y: Floats, alpha: Floats) -> None:
        self._regression = regression
        self._y = y
        self._alpha = alpha

    def on_fit(self) -> Floats:
        """Predictions for the fit half, (fit, targets); for the part that was learned from as if each task had been left out."""
        regression = self._regression
        found: Floats = self._y.mean(axis=0) + regression.centred @ self._alpha
        found[regression.train] = self._y - (self._y - found[regression.train]) * regression.left
        return found

    def on_all(self) -> Floats:
        """Predictions for all tasks, (tasks, targets)."""
        weights, constant = self._primal
        found: Floats = constant + np.sum(
            [part.x @ own for part, own in zip(self._regression.design.parts, weights, strict=True)], axis=0
        )
        return found

    @cached_property
    def _primal(self) -> tuple[list[Floats], Floats]:
        """Weights of the scaled signals, by part of the design, and the constant."""
        weights, constant = [], self._y.mean(axis=0)
        for part in self._regression.design.parts:
            x = part.x_fit[self._regression.train]
            mean = np.asarray(x.mean(axis=0)).ravel()
            weights.append(np.asarray(x.T @ self._alpha) - np.outer(mean, self._alpha.sum(axis=0)))
            constant = constant - mean @ weights[-1]
        return weights, constant

    def coefficients(self, mix: Floats) -> dict[str, float]:
        """The coefficients of a weighted sum of the targets, ``mix`` of shape (targets,), as a policy's score has them."""
        weights, constant = self._primal
        found = {"one": float(constant @ mix)}
        for part, own in zip(self._regression.design.parts, weights, strict=True):
            scaled = ((own @ mix) * part.scale).tolist()
            found |= {name: weight for name, weight in zip(part.names, scaled, strict=True) if weight}
        return found


def added(*scores: Mapping[str, float]) -> dict[str, float]:
    """The sum of scores, rounded to seven digits: what a saved policy needs, in half the space."""
    names = dict.fromkeys(name for score in scores for name in score)
    return {name: float(f"{sum(score.get(name, 0.0) for score in scores):.7g}") for name in names}


def negated(score: Mapping[str, float]) -> dict[str, float]:
    """The score with the other sign."""
    return {name: -value for name, value in score.items()}


def _matrix(rows: Sequence[Mapping[str, float]]) -> tuple[list[str], Any]:
    column: dict[str, int] = {}
    indices: list[int] = []
    values: list[float] = []
    starts = [0]
    for row in rows:
        for name, value in row.items():
            if name != "one":
                indices.append(column.setdefault(name, len(column)))
                values.append(value)
        starts.append(len(indices))
    shape = (len(rows), max(len(column), 1))
    return list(column) or ["one"], sparse.csr_array(
        (np.array(values), np.array(indices, dtype=np.int64), np.array(starts)), shape=shape
    )


def _scales(names: Sequence[str], fit: Any) -> Floats:
    """What each signal is multiplied by: 1/√penalty, over its standard deviation unless it is taken as it is."""
    n = fit.shape[0]
    mean = np.asarray(fit.mean(axis=0)).ravel()
    square = np.asarray(fit.multiply(fit).mean(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(square - mean * mean, 0) * n / max(n - 1, 1))
    scale = np.empty(len(names))
    for i, name in enumerate(names):
        form = form_of(name)
        own = 1.0 if form in AS_IS else deviation[i]
        scale[i] = 0.0 if own < LEAST_DEVIATION else 1 / (own * np.sqrt(PENALTY.get(form, OTHER)))
    return scale
