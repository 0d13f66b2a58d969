"""A simple model of rewards, for doubly robust estimates: what each action would earn in each context."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

FOLDS = 5
ROWS = 100_000  # rows times actions that are predicted at a time


def encoded(features: pl.DataFrame, rows: int) -> Any:
    """A sparse matrix (rows, F): numbers standardised (what is missing is the mean), others one column a value."""
    from scipy import sparse

    parts = [sparse.csr_matrix((rows, 0))]
    for column in features:
        if column.dtype.is_numeric():
            values = column.cast(pl.Float64).to_numpy().copy()
            known = np.isfinite(values)
            mean, spread = (values[known].mean(), values[known].std() or 1.0) if known.any() else (0.0, 1.0)
            parts.append(sparse.csr_matrix(np.where(known, (values - mean) / spread, 0.0)[:, None]))
        else:
            _, place = np.unique(column.cast(pl.String).fill_null("").to_numpy(), return_inverse=True)
            parts.append(_one_hot(place, int(place.max()) + 1))
    return sparse.hstack(parts, format="csr")


def _one_hot(place: np.ndarray, width: int) -> Any:
    from scipy import sparse

    rows = np.arange(len(place))
    return sparse.csr_matrix((np.ones(len(place)), (rows, place)), shape=(len(place), width))


def cross_fitted(
    features: Any, action: np.ndarray, reward: np.ndarray, probabilities: np.ndarray, context: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) expected reward of what was taken, and (N,) of what a target would take, by models that did not see the row.

    features: (N, F) matrix. action: (N,) place among A. probabilities: (C, A) of the target in C contexts; context:
    (N,) place among C. Five folds; g(features w + one weight an action): logistic regression where rewards are 0 and 1,
    ridge regression otherwise (scikit-learn's defaults). A fold in which all rewards are equal predicts that reward.
    """
    from scipy import sparse
    from sklearn.model_selection import KFold

    actions = probabilities.shape[1]
    design = sparse.hstack([features, _one_hot(action, actions)], format="csr")
    taken, wanted = np.empty(len(reward)), np.empty(len(reward))
    folds = min(FOLDS, len(reward))
    if folds < 2:
        raise ValueError("a reward model needs two rows at least")
    for fitted, held in KFold(folds, shuffle=True, random_state=seed).split(reward):
        base, bonus, link = _fitted(design[fitted], reward[fitted], actions)
        score = design[held][:, :-actions] @ base[:-1] + base[-1]
        taken[held] = link(score + bonus[action[held]])
        step = max(1, ROWS // actions)
        for start in range(0, len(held), step):
            part = slice(start, start + step)
            earned = link(score[part, None] + bonus)
            wanted[held[part]] = (probabilities[context[held[part]]] * earned).sum(axis=1)
    return taken, wanted


def _fitted(design: Any, reward: np.ndarray, actions: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """Weights of the features with the intercept last, weights of the actions, and the link."""
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression, Ridge

    width = design.shape[1]
    if (reward == reward[0]).all():
        weights = np.zeros(width - actions + 1)
        weights[-1] = reward[0]
        return weights, np.zeros(actions), lambda x: x
    binary = bool(np.isin(reward, (0.0, 1.0)).all())
    model = LogisticRegression(max_iter=1000) if binary else Ridge()
    model.fit(design, reward)
    weights, intercept = np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
    return np.append(weights[:-actions], intercept), weights[-actions:], expit if binary else (lambda x: x)
