"""Linear models of signals with few labels: ridge regression, with a penalty for each kind of signal.

A signal's penalty says how much it is trusted before anything was seen: in labels, how many it takes until half of an effect
of a standardised signal is believed. With one-hot tags this is the mean of each tag's group, shrunk toward the mean of all by so
many labels; with hashed words it is a vote of the neighbours in the fit half, weighed by the words that they share.
The penalties are fixed (chosen once, on recorded workloads: docs/design/tuning.md), so that nothing is tuned on a user's few labels. All are solved in
the dual (Saunders, Gammerman and Vovk 1998), whose size is the number of labels; the error of leaving one out is exact (Allen 1974).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from orchestrion.policy.signals import form_of

Floats = NDArray[np.float64]

PENALTY = {"tag": 30.0, "answer": 30.0, "text": 10.0, "share": 3.0, "agree": 3.0, "distinct": 3.0, "verdict": 3.0}
"""In labels, by the form of a signal."""

OTHER = 15.0
"""The penalty of lengths, tokens, costs and latencies."""

AS_IS = frozenset({"tag", "answer", "text"})
"""Signals that are not standardised: they are rare, and their scale means something."""

MOST_LEVERAGE = 0.95


class Matrix:
    """Signals of all tasks by name, one row a task. ``beside`` adds columns: those of the prompt are worked out once."""

    def __init__(self, rows: Sequence[Mapping[str, float]]) -> None:
        self.names, self.values = _matrix(rows)

    def beside(self, rows: Sequence[Mapping[str, float]]) -> Matrix:
        """The same rows with further signals, whose names are others."""
        wider = Matrix(rows)
        wider.names = [*self.names, *wider.names]
        wider.values = sparse.hstack([self.values, wider.values], format="csr")
        return wider


class Design:
    """Signals of all tasks, scaled by their penalties and centred on the fit half.

    ``fit`` are the indices of the tasks with labels to learn from, shape (n,).
    """

    def __init__(self, matrix: Matrix, fit: NDArray[np.intp]) -> None:
        self.names = matrix.names
        self.fit = fit
        self.scale = _scales(self.names, matrix.values[fit])
        self._x = matrix.values @ sparse.diags_array(self.scale)
        x_fit = self._x[fit]
        self._mean = np.asarray(x_fit.mean(axis=0)).ravel()
        shift = np.asarray(x_fit @ self._mean).ravel()
        gram = np.asarray((x_fit @ x_fit.T).todense()) - shift[:, None] - shift[None, :] + self._mean @ self._mean
        n = len(fit)
        self._inverse = np.linalg.inv(gram + np.eye(n))
        self._hat = gram @ self._inverse
        leverage = np.minimum(np.diag(self._hat) + 1 / n, MOST_LEVERAGE)
        self._left = 1 / (1 - leverage)[:, None]
        self._x_fit = x_fit

    def learn(self, y: Floats) -> Learned:
        """Regress ``y``, shape (n, targets), on the signals."""
        mean = y.mean(axis=0)
        centred = y - mean
        alpha = self._inverse @ centred
        weights = np.asarray(self._x_fit.T @ alpha) - np.outer(self._mean, alpha.sum(axis=0))
        constant = mean - self._mean @ weights
        predicted = np.asarray(self._x @ weights) + constant
        predicted[self.fit] = y - (centred - self._hat @ centred) * self._left
        return Learned(self, weights, constant, predicted)


class Learned:
    """``predicted``: (tasks, targets); for the fit half, as if each task had been left out."""

    def __init__(self, design: Design, weights: Floats, constant: Floats, predicted: Floats) -> None:
        self.predicted = predicted
        self._design = design
        self._weights = weights
        self._constant = constant

    def coefficients(self, mix: Floats) -> dict[str, float]:
        """The coefficients of a weighted sum of the targets, ``mix`` of shape (targets,), as a policy's score has them."""
        weights = (self._weights @ mix) * self._design.scale
        found = {name: weight for name, weight in zip(self._design.names, weights.tolist(), strict=True) if weight}
        return {"one": float(self._constant @ mix), **found}


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
        scale[i] = 0.0 if own < 1e-9 else 1 / (own * np.sqrt(PENALTY.get(form, OTHER)))
    return scale
