"""Users as vectors: the engine of the estimator, behind the interface of a transformer."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from sklearn_fedrecon import (
    FederatedReconstructionMF,
    FederatedReconstructionTransformer,
    make_ratings,
)

PARAMETERS = {"n_components": 3, "max_iter": 4, "random_state": 0, "dtype": "float64"}


@pytest.fixture(scope="module")
def matrix(small_ratings):
    X = np.full((120, 60), np.nan)
    X[tuple(small_ratings.data.T)] = small_ratings.target
    X.flags.writeable = False
    return X


@pytest.fixture(scope="module")
def fitted(matrix):
    return FederatedReconstructionTransformer(**PARAMETERS).fit(matrix)


@pytest.fixture(scope="module")
def of_table(small_ratings):
    model = FederatedReconstructionMF(**PARAMETERS, items=np.arange(60))
    return model.fit(small_ratings.data, small_ratings.target)


@pytest.mark.parametrize("parameters", [{}, {"n_components": 0}, {"fit_bias": False}])
def test_check_estimator_passes_completely(parameters):
    transformer = FederatedReconstructionTransformer(**parameters)
    results = check_estimator(transformer, on_fail=None, on_skip=None)
    statuses = Counter(result["status"] for result in results)
    assert set(statuses) == {"passed"}, results


def test_parameters_and_defaults_are_those_of_the_estimator():
    own = FederatedReconstructionTransformer().get_params()
    others = FederatedReconstructionMF().get_params()
    of_tables = {"user_column", "item_column", "items", "unknown_user", "warm_start"}
    assert own == {name: value for name, value in others.items() if name not in of_tables}


def test_rows_become_the_users_of_the_same_ratings_in_a_table(fitted, matrix, of_table):
    users = fitted.transform(matrix)
    np.testing.assert_array_equal(users[:, :3], of_table.user_factors_)
    np.testing.assert_array_equal(users[:, 3], of_table.user_bias_)


@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize("n_components", [0, 3])
def test_completed_rows_are_the_predictions(matrix, small_ratings, fit_bias, n_components):
    settings = PARAMETERS | {"fit_bias": fit_bias, "n_components": n_components}
    transformer = FederatedReconstructionTransformer(**settings).fit(matrix)
    model = FederatedReconstructionMF(**settings, items=np.arange(60))
    model.fit(small_ratings.data, small_ratings.target)
    everything = np.array([[user, item] for user in range(120) for item in range(60)])
    users = transformer.transform(matrix)
    completed = transformer.inverse_transform(users)
    np.testing.assert_allclose(completed.ravel(), model.predict(everything), rtol=1e-10)
    np.testing.assert_allclose(completed, users @ transformer.components_ + transformer.mean_)
    assert users.shape == (120, n_components + fit_bias)


def test_a_row_is_transformed_alone_whoever_else_is_there(fitted, matrix):
    together = fitted.transform(matrix)
    for row in (0, 7, 119):
        np.testing.assert_allclose(fitted.transform(matrix[[row]])[0], together[row], rtol=1e-12)


def test_a_row_without_ratings_is_the_average_user(fitted):
    user = fitted.transform(np.full((1, 60), np.nan))[0]
    np.testing.assert_allclose(user, fitted.estimator_.user_prior_mean_, rtol=1e-6, atol=1e-9)


def test_rows_and_columns_without_ratings_do_no_harm(matrix, fitted):
    wider = np.full((121, 61), np.nan)
    wider[:120, :60] = matrix
    model = clone(fitted).fit(wider)
    np.testing.assert_allclose(model.components_[:, :60], fitted.components_, rtol=1e-7)
    np.testing.assert_array_equal(model.components_[:3, 60], 0)
    assert model.transform(wider).shape == (121, 4)


def test_no_user_is_kept(fitted):
    assert len(fitted.estimator_.users_) == 0
    assert not any(120 in np.shape(value) for value in vars(fitted).values())


def test_the_fitted_server_side_recommends(fitted, of_table):
    np.testing.assert_array_equal(
        fitted.estimator_.recommend({3: 5.0}, 4)[0], of_table.recommend({3: 5.0}, 4)[0]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arithmetic", ["float32", "float64"])
def test_results_have_the_type_of_the_ratings(matrix, dtype, arithmetic):
    X = matrix.astype(dtype)
    model = FederatedReconstructionTransformer(2, max_iter=2, dtype=arithmetic).fit(X)
    users = model.transform(X)
    assert users.dtype == model.inverse_transform(users).dtype == model.components_.dtype == dtype
    assert model.estimator_.item_factors_.dtype == arithmetic


def test_ratings_are_clipped_to_a_declared_scale(matrix):
    model = FederatedReconstructionTransformer(2, rating_scale=(1, 5), random_state=0)
    completed = model.fit(matrix).inverse_transform(np.array([[9.0, 9.0, 9.0], [0, 0, -9]]))
    assert completed.min() == 1
    assert completed.max() == 5


def test_frames_have_names_on_both_sides(matrix):
    table = pd.DataFrame(matrix, columns=[f"film {i}" for i in range(60)])
    model = FederatedReconstructionTransformer(2, max_iter=2).set_output(transform="pandas")
    users = model.fit_transform(table)
    names = [f"federatedreconstructiontransformer{i}" for i in range(3)]
    assert users.columns.tolist() == names
    assert model.get_feature_names_out().tolist() == names
    assert model.feature_names_in_.tolist() == table.columns.tolist()
    assert users.index.equals(table.index)


def groups_of_users():
    """Two groups that like different items, and nothing else to tell them apart."""
    ratings = make_ratings(
        n_users=160,
        n_items=50,
        n_ratings=3200,
        n_components=2,
        spectrum="flat",
        component_variance=1.0,
        noise_std=0.5,
        random_state=0,
    )
    X = np.full((160, 50), np.nan)
    X[tuple(ratings.data.T)] = ratings.target
    return X, (ratings.user_factors[:, 0] > 0).astype(int)


def test_vectors_feed_a_classifier_in_a_pipeline():
    X, y = groups_of_users()
    pipeline = make_pipeline(
        FederatedReconstructionTransformer(4, random_state=0),
        StandardScaler(),
        LogisticRegression(),
    )
    assert cross_val_score(pipeline, X, y, cv=4).mean() > 0.85
    assert cross_val_score(DummyClassifier(), X, y, cv=4).mean() < 0.6


def test_a_search_reaches_the_parameters_in_a_pipeline():
    X, y = groups_of_users()
    pipeline = make_pipeline(
        FederatedReconstructionTransformer(random_state=0, max_iter=5), LogisticRegression()
    )
    grid = {"federatedreconstructiontransformer__n_components": [0, 3]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_ == {"federatedreconstructiontransformer__n_components": 3}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda X: sparse.csr_array(np.nan_to_num(X)), TypeError, "[Ss]parse"),
        (lambda X: np.where(np.isnan(X), np.inf, X), ValueError, "infinity"),
        (lambda X: np.full_like(X, np.nan), ValueError, "X holds no rating"),
        (lambda X: X * 2, ValueError, "do not fit rating_scale"),
    ],
)
def test_what_is_no_matrix_of_ratings_is_refused(matrix, change, error, message):
    model = FederatedReconstructionTransformer(2, rating_scale=(1, 5), max_iter=2)
    with pytest.raises(error, match=message):
        model.fit(change(matrix))


def test_rows_to_transform_keep_to_the_scale_too(matrix):
    model = FederatedReconstructionTransformer(2, rating_scale=(1, 5), max_iter=2).fit(matrix)
    with pytest.raises(ValueError, match="do not fit rating_scale"):
        model.transform(matrix * 2)


def test_vectors_of_another_length_are_refused(fitted):
    with pytest.raises(ValueError, match="X has 3 columns; expected the 4 of transform"):
        fitted.inverse_transform(np.zeros((1, 3)))


def test_a_fit_that_failed_leaves_nothing_that_counts_as_fitted():
    transformer = FederatedReconstructionTransformer(2)
    with pytest.raises(ValueError, match="holds no rating"):
        transformer.fit(np.full((5, 4), np.nan))
    with pytest.raises(NotFittedError):
        check_is_fitted(transformer)


def test_a_sparse_matrix_says_what_to_do_and_that_works(matrix):
    rated = ~np.isnan(matrix)
    stored = sparse.csr_array((matrix[rated], np.nonzero(rated)), shape=matrix.shape)
    transformer = FederatedReconstructionTransformer(2, max_iter=2, random_state=0)
    for call in (transformer.fit, transformer.fit(matrix).transform):
        with pytest.raises(TypeError, match=r"Sparse data .* expected an array with NaN"):
            call(stored)
    with pytest.raises(TypeError, match=r"Sparse data .* coo = X.tocoo\(\)"):
        transformer.estimator_.fit(stored, [1])
    coo = stored.tocoo()
    table = np.column_stack([coo.row, coo.col])
    model = FederatedReconstructionMF(2, max_iter=2, random_state=0, items=np.arange(coo.shape[1]))
    model.fit(table, coo.data)
    np.testing.assert_allclose(model.item_factors_.T, transformer.components_[:2], rtol=1e-4)
