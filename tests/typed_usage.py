"""A user's program, for the type checker alone: what it asserts, mypy has to find."""

from typing import Any, assert_type

import numpy as np

import sklearn_fedrecon
from sklearn_fedrecon import (
    FederatedReconstructionMF,
    FederatedReconstructionTransformer,
    load_model,
    make_ratings,
    save_model,
)
from sklearn_fedrecon.metrics import ndcg_at_k, rmse


class Mine(FederatedReconstructionMF):
    """What is fitted is of the class that was asked."""


def use() -> None:
    X, y = make_ratings(n_users=80, n_items=40, n_ratings=1600, return_X_y=True)
    model = Mine(n_components=4, clients_per_round=0.5, rating_scale=(1, 5)).fit(X, y)
    assert_type(model, Mine)
    assert_type(model.partial_fit(X, y, total_users=100), Mine)
    assert_type(model.personalize(X, y), Mine)
    assert_type(model.forget_users(), Mine)
    assert_type(model.predict(X), np.ndarray)
    assert_type(model.predict(X, return_std=True), tuple[np.ndarray, np.ndarray])
    assert_type(model.recommend(3), tuple[np.ndarray, np.ndarray])
    assert_type(
        model.recommend(3, n=5, return_std=True), tuple[np.ndarray, np.ndarray, np.ndarray]
    )
    assert_type(model.recommend([3, 4], as_frame=True), Any)
    assert_type(model.similar_items(3, 5), tuple[np.ndarray, np.ndarray])
    assert_type(model.popular_items(as_frame=True), Any)
    assert_type(model.item_factors_, np.ndarray)
    assert_type(model.item_variance_, np.ndarray | None)
    assert_type(model.history_, dict[str, np.ndarray])
    assert_type(model.n_iter_, int)
    assert_type(rmse(y, model.predict(X)), float)
    assert_type(ndcg_at_k(X, X, X, average=False), np.ndarray)
    save_model(model, "model.npz")
    assert_type(load_model("model.npz"), FederatedReconstructionMF)
    users = FederatedReconstructionTransformer(4).fit(X)
    assert_type(users, FederatedReconstructionTransformer)
    assert_type(users.transform(X), np.ndarray)
    assert_type(sklearn_fedrecon.__version__, str)
