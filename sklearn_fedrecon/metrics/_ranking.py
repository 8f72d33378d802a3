"""How good the best ``k`` items of every client are.

Two conventions hold for all measures of this module:

- *Candidates.* The candidates of a client are the whole catalogue less the items that it
  had rated when the model was fitted (``seen``). Scores of all items are asked for and
  must be finite, so that no choice of candidates can be smuggled in: ranking the held-out
  items among a sample of others makes any model look good.
- *Ties.* Items of equal score are ordered at random, and the value is the exact expectation
  over these orders. A constant score earns the level of chance, neither 0 nor 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, Literal, overload

import numpy as np
from scipy import sparse
from sklearn.utils import check_array


@overload
def ndcg_at_k(
    scores: Any, relevant: Any, seen: Any, *, k: int = ..., average: Literal[True] = ...
) -> float: ...
@overload
def ndcg_at_k(
    scores: Any, relevant: Any, seen: Any, *, k: int = ..., average: Literal[False]
) -> np.ndarray: ...
def ndcg_at_k(scores, relevant, seen, *, k=10, average=True):
    """Normalized discounted cumulative gain of the best ``k`` candidates.

    The gain at rank ``r`` (from 1) is divided by ``log2(1 + r)``, and the sum by that of
    the best possible order. Gains enter as they are, not as powers of two.

    Parameters
    ----------
    scores : array-like of shape (n_clients, n_items)
        Finite scores of the whole catalogue; higher is recommended earlier.
    relevant : {array-like, sparse matrix} of shape (n_clients, n_items)
        Non-negative gains of the held-out items; 0 where an item is not relevant.
    seen : {array-like, sparse matrix} of shape (n_clients, n_items) or None
        Not 0 where the client had rated the item when the model was fitted; these items
        are no candidates. None says that no client had rated any.
    k : int, default=10
        Length of the recommendation.
    average : bool, default=True
        Whether to average over clients. Clients without a relevant item have no value and
        are left out of the average.

    Returns
    -------
    float or ndarray of shape (n_clients,)
        The average, or each client's value (NaN where it has no relevant item).

    Raises
    ------
    ValueError
        If a relevant item is among the seen ones of the same client, among others.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import ndcg_at_k
    >>> scores = [[0.9, 0.5, 0.4, 0.1]]
    >>> ndcg_at_k(scores, relevant=[[0, 0, 1, 0]], seen=[[1, 0, 0, 0]], k=2)
    0.63...
    """
    return _average(_ndcg, scores, relevant, seen, k, average)


@overload
def recall_at_k(
    scores: Any, relevant: Any, seen: Any, *, k: int = ..., average: Literal[True] = ...
) -> float: ...
@overload
def recall_at_k(
    scores: Any, relevant: Any, seen: Any, *, k: int = ..., average: Literal[False]
) -> np.ndarray: ...
def recall_at_k(scores, relevant, seen, *, k=10, average=True):
    """Share of a client's relevant items found among its best ``k`` candidates.

    Parameters
    ----------
    scores : array-like of shape (n_clients, n_items)
        Finite scores of the whole catalogue; higher is recommended earlier.
    relevant : {array-like, sparse matrix} of shape (n_clients, n_items)
        Above 0 where a held-out item is relevant.
    seen : {array-like, sparse matrix} of shape (n_clients, n_items) or None
        Not 0 where the client had rated the item when the model was fitted; these items
        are no candidates. None says that no client had rated any.
    k : int, default=10
        Length of the recommendation.
    average : bool, default=True
        Whether to average over clients. Clients without a relevant item have no value and
        are left out of the average.

    Returns
    -------
    float or ndarray of shape (n_clients,)
        The average, or each client's value (NaN where it has no relevant item). A client
        with more than ``k`` relevant items cannot reach 1.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import recall_at_k
    >>> scores = [[0.9, 0.5, 0.4, 0.1]]
    >>> recall_at_k(scores, relevant=[[0, 0, 1, 1]], seen=[[1, 0, 0, 0]], k=2)
    0.5
    """
    return _average(_recall, scores, relevant, seen, k, average)


@overload
def hit_rate_at_k(
    scores: Any, relevant: Any, seen: Any, *, k: int = ..., average: Literal[True] = ...
) -> float: ...
@overload
def hit_rate_at_k(
    scores: Any, relevant: Any, seen: Any, *, k: int = ..., average: Literal[False]
) -> np.ndarray: ...
def hit_rate_at_k(scores, relevant, seen, *, k=10, average=True):
    """Share of clients that find a relevant item among their best ``k`` candidates.

    Parameters
    ----------
    scores : array-like of shape (n_clients, n_items)
        Finite scores of the whole catalogue; higher is recommended earlier.
    relevant : {array-like, sparse matrix} of shape (n_clients, n_items)
        Above 0 where a held-out item is relevant.
    seen : {array-like, sparse matrix} of shape (n_clients, n_items) or None
        Not 0 where the client had rated the item when the model was fitted; these items
        are no candidates. None says that no client had rated any.
    k : int, default=10
        Length of the recommendation.
    average : bool, default=True
        Whether to average over clients. Clients without a relevant item have no value and
        are left out of the average.

    Returns
    -------
    float or ndarray of shape (n_clients,)
        The average, or each client's value: 0 or 1, between them where ties decide, NaN
        where the client has no relevant item.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import hit_rate_at_k
    >>> hit_rate_at_k([[0.0, 0.0, 0.0, 0.0]], relevant=[[0, 0, 0, 1]], seen=None, k=1)
    0.25
    """
    return _average(_hit, scores, relevant, seen, k, average)


def coverage_at_k(scores: Any, seen: Any, *, k: int = 10) -> float:
    """Share of the catalogue that is recommended to at least one client.

    Parameters
    ----------
    scores : array-like of shape (n_clients, n_items)
        Finite scores of the whole catalogue; higher is recommended earlier.
    seen : {array-like, sparse matrix} of shape (n_clients, n_items) or None
        Not 0 where the client had rated the item when the model was fitted; these items
        are no candidates. None says that no client had rated any.
    k : int, default=10
        Length of the recommendation.

    Returns
    -------
    float
        The share, between 0 and 1; its expectation where ties decide. It grows with the
        number of clients: compare it at equal numbers.

    Examples
    --------
    >>> from sklearn_fedrecon.metrics import coverage_at_k
    >>> coverage_at_k([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]], seen=None, k=1)
    0.25
    """
    return float(np.mean(1 - missed_at_k(scores, seen, k)))


def missed_at_k(scores: Any, seen: Any, k: int) -> np.ndarray:
    """Probability of every item to be recommended to no client.

    Parameters
    ----------
    scores : array-like of shape (n_clients, n_items)
    seen : {array-like, sparse matrix} of shape (n_clients, n_items) or None
    k : int

    Returns
    -------
    missed : ndarray of shape (n_items,)
        That of many clients is the product over groups of them.
    """
    scores, _, seen = _check_ranking(scores, None, seen, k)
    missed = np.ones(scores.shape[1])
    for values, _, candidates in _candidates(scores, None, seen):
        missed[candidates] *= 1 - _inclusion(values, k)
    return missed


def _ndcg(scores: np.ndarray, gains: np.ndarray, k: int) -> float:
    """Expected NDCG of one client: tied items share the mean gain of their group."""
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    by_rank = np.repeat(np.bincount(group, weights=gains) / sizes, sizes)[:k]
    ideal = np.sort(gains)[::-1][:k]
    discounts = 1 / np.log2(np.arange(2, len(ideal) + 2))
    return float((by_rank @ discounts) / (ideal @ discounts))


def _recall(scores: np.ndarray, gains: np.ndarray, k: int) -> float:
    """Expected recall of one client."""
    return float(_inclusion(scores, k)[gains > 0].sum() / np.count_nonzero(gains))


def _hit(scores: np.ndarray, gains: np.ndarray, k: int) -> float:
    """Probability that one client finds a relevant item in its best k."""
    inclusion = _inclusion(scores, k)
    if (inclusion[gains > 0] == 1).any():
        return 1.0
    tied = (inclusion > 0) & (inclusion < 1)
    n_tied, n_relevant = np.count_nonzero(tied), np.count_nonzero(gains[tied])
    places = np.arange(min(k, len(scores)) - np.count_nonzero(inclusion == 1))
    return float(1 - np.prod((n_tied - n_relevant - places) / (n_tied - places)))


def _inclusion(scores: np.ndarray, k: int) -> np.ndarray:
    """Probability of each candidate to be among the best k, ties broken at random."""
    if k >= len(scores):
        return np.ones(len(scores))
    last = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, tied = scores > last, scores == last
    return above + tied * ((k - np.count_nonzero(above)) / np.count_nonzero(tied))


def _average(value: Callable, scores, relevant, seen, k, average: bool):
    """Value of every client that has a relevant item, and their average."""
    scores, relevant, seen = _check_ranking(scores, relevant, seen, k)
    values = np.full(len(scores), np.nan)
    for client, (ranked, gains, _) in enumerate(_candidates(scores, relevant, seen)):
        if gains.any():
            values[client] = value(ranked, gains, k)
    if not average:
        return values
    if np.isnan(values).all():
        raise ValueError("relevant names no item for any client: there is nothing to average.")
    return float(np.nanmean(values))


def _candidates(scores, relevant, seen) -> Iterator[tuple]:
    """Scores, gains and item indices of every client's candidates."""
    catalogue = np.arange(scores.shape[1])
    for client in range(len(scores)):
        rated = seen.indices[seen.indptr[client] : seen.indptr[client + 1]]
        candidates = np.delete(catalogue, rated)
        gains = np.zeros(len(catalogue))
        if relevant is not None:
            row = slice(relevant.indptr[client], relevant.indptr[client + 1])
            gains[relevant.indices[row]] = relevant.data[row]
        yield scores[client, candidates], gains[candidates], candidates


def _check_ranking(scores, relevant, seen, k) -> tuple:
    """Scores as an array, relevance and seen items in CSR form without stored zeros."""
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be an integer of at least 1; got {k!r}.")
    scores = check_array(scores, dtype=np.float64, input_name="scores")
    relevant = _check_matrix(relevant, "relevant", scores.shape)
    seen = _check_matrix(seen, "seen", scores.shape)
    if relevant.nnz and relevant.data.min() < 0:
        raise ValueError(
            f"relevant must hold gains of at least 0; got {relevant.data.min():g}. "
            "Shift or threshold the ratings, for instance relevant = (ratings >= 4)."
        )
    leaked = relevant.astype(bool).multiply(seen.astype(bool)).nnz
    if leaked:
        raise ValueError(
            f"{leaked} relevant items are also in seen for the same client. Items rated "
            "in training are no candidates: hold the relevant ones out of training."
        )
    return scores, relevant, seen


def _check_matrix(matrix, name: str, shape: tuple[int, int]) -> sparse.csr_array:
    """A matrix of the shape of the scores in CSR form, without stored zeros."""
    if matrix is None:
        return sparse.csr_array(shape)
    matrix = check_array(matrix, accept_sparse="csr", dtype=np.float64, input_name=name)
    if matrix.shape != shape:
        raise ValueError(
            f"{name} has shape {matrix.shape} but scores have shape {shape}. Scores of the "
            "whole catalogue are needed, one column an item, in the order of the items."
        )
    matrix = sparse.csr_array(matrix, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix
