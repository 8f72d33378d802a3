"""`FederatedReconstructionTransformer`: the same engine for ratings laid out as a matrix."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from ._answers import clipped, fitted_of, rebuilt
from ._compat import CallbackSupportMixin, _fit_context, validate_data
from ._encoding import check_scale, encode_ratings
from ._estimator import FederatedReconstructionMF
from ._fitted import Fitted
from ._html import DocumentationLinkMixin
from ._training import Face, fit, unharmed

_OF_TABLES = {"user_column", "item_column", "items", "unknown_user", "warm_start"}


class FederatedReconstructionTransformer(
    CallbackSupportMixin,
    DocumentationLinkMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Users as vectors, rebuilt from a matrix with a row a user and a column an item.

    NaN stands for "not rated". `fit` runs the rounds of `FederatedReconstructionMF` on the
    ratings that there are. `transform` rebuilds the user of every row from that row alone,
    whether it was in training or not, and `inverse_transform` completes the rows. The
    vectors feed any estimator that follows in a Pipeline.

    Parameters
    ----------
    n_components : int, default=16
        Length of the factors. 0 leaves the biases.
    rating_scale : tuple of (float, float), default=None
        Lowest and highest rating: others are refused, completed ratings are clipped.
    global_mean : {"federated", "learned"} or float, default="federated"
        See `FederatedReconstructionMF`, like all that follows.
    fit_bias : bool, default=True
        Whether users and items have a bias. A user's bias is then the last column of what
        `transform` returns.
    reconstruction : str or part, default="variational"
        How users are rebuilt; see `sklearn_fedrecon.reconstruction`.
    client_update : str or part, default="auto"
        What clients compute for the items; see `sklearn_fedrecon.client_update`.
    aggregator : str or part, default="mean"
        How updates are combined; see `sklearn_fedrecon.aggregation`.
    server_optimizer : str or part, default="auto"
        How the server steps; see `sklearn_fedrecon.server_optimizers`.
    support_query : str or part, default="auto"
        Which ratings rebuild a user and which update items; see
        `sklearn_fedrecon.splitting`.
    clients_per_round : int, float or None, default=None
        Size of the cohort, as a number or as a share of the users in (0, 1]. None: all.
    sampling : {"fixed", "poisson"}, default="fixed"
        Cohorts of fixed size without replacement, or every user independently.
    client_dropout : float, default=0.0
        Probability, in [0, 1), that a sampled client never answers.
    max_iter : int, default=None
        Rounds. None: as many as give every client 10 expected participations, at most 500.
    tol : float, default=1e-4
        Smallest relative improvement or change that counts. None runs all rounds.
    early_stopping : bool, default=False
        Hold out users, stop when their error no longer improves, and keep the best model.
    validation_fraction : float, default=0.1
        Share of the users to hold out. Half of the ratings of each are revealed.
    n_iter_no_change : int, default=5
        Rounds without such an improvement or change to wait before stopping.
    dtype : {"float32", "float64"}, default="float32"
        Type of the arithmetic. What is returned has the type of X.
    n_jobs : int, default=None
        Workers that share the clients of a round. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed.
    verbose : int, default=0
        Whether to print a line a round.

    Attributes
    ----------
    components_ : ndarray of shape (n_components + fit_bias, n_items)
        Item factors; where biases are fitted, a row of ones for the users' biases.
    mean_ : ndarray of shape (n_items,)
        Global mean and item biases: what somebody is predicted who is like nobody.
    estimator_ : FederatedReconstructionMF
        The server side; items are numbered by column.
    exchanges_ : dict of str to ndarray of shape (n_exchanges,)
        What was asked before the first round, a row an exchange.
    history_ : dict of str to ndarray of shape (n_iter_,)
        A column a measurement.
    n_iter_ : int
        Rounds done.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X, where it had names.

    See Also
    --------
    FederatedReconstructionMF : The same for ratings in a table, a row a rating.

    Notes
    -----
    ``transform(X) @ components_ + mean_`` completes ``X``, as in
    `sklearn.decomposition.PCA`; with missing entries there is more than one user that could
    have given a row, and `transform` takes the most probable one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon import FederatedReconstructionTransformer
    >>> X = np.array([[5, 4, np.nan], [4, np.nan, 1], [np.nan, 2, 5], [2, 1, 4]])
    >>> model = FederatedReconstructionTransformer(n_components=1, random_state=0).fit(X)
    >>> model.transform([[np.nan, 5, np.nan]]).shape
    (1, 2)
    >>> model.inverse_transform(model.transform(X)).shape
    (4, 3)
    """

    components_: np.ndarray
    mean_: np.ndarray
    estimator_: FederatedReconstructionMF
    exchanges_: dict[str, np.ndarray]
    history_: dict[str, np.ndarray]
    n_iter_: int
    n_features_in_: int
    feature_names_in_: np.ndarray

    _parameter_constraints = {  # noqa: RUF012
        name: constraint
        for name, constraint in FederatedReconstructionMF._parameter_constraints.items()
        if name not in _OF_TABLES
    }

    def __init__(
        self,
        n_components: int = 16,
        *,
        rating_scale: Any = None,
        global_mean: float | str = "federated",
        fit_bias: bool = True,
        reconstruction: Any = "variational",
        client_update: Any = "auto",
        aggregator: Any = "mean",
        server_optimizer: Any = "auto",
        support_query: Any = "auto",
        clients_per_round: float | None = None,
        sampling: str = "fixed",
        client_dropout: float = 0.0,
        max_iter: int | None = None,
        tol: float | None = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        dtype: str = "float32",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.rating_scale = rating_scale
        self.global_mean = global_mean
        self.fit_bias = fit_bias
        self.reconstruction = reconstruction
        self.client_update = client_update
        self.aggregator = aggregator
        self.server_optimizer = server_optimizer
        self.support_query = support_query
        self.clients_per_round = clients_per_round
        self.sampling = sampling
        self.client_dropout = client_dropout
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Run the rounds on the ratings in a matrix.

        Parameters
        ----------
        X : array-like of shape (n_users, n_items)
            Ratings, NaN where there is none.
        y : None
            Ignored, but for callbacks that ask for it.

        Returns
        -------
        self : FederatedReconstructionTransformer
            Fitted transformer.

        Raises
        ------
        ValueError
            If nothing is rated, a rating is infinite, or a parameter is not valid.
        """
        face = Face(self, {"X": X, "y": y}, self._attributes)
        with unharmed(self):
            X = self._check(X, reset=True)
            users, items = np.nonzero(~np.isnan(X))
            if len(users) == 0:
                raise ValueError("X holds no rating: every entry is NaN.")
            engine = self._engine(X.shape[1])
            fit(engine, np.column_stack([users, items]), X[users, items], None, face)
        return self

    def _engine(self, n_items: int) -> FederatedReconstructionMF:
        """The estimator that does the rounds, not fitted."""
        parameters = self.get_params(deep=False)
        return FederatedReconstructionMF(**parameters, items=np.arange(n_items))

    def _attributes(self, fitted: Fitted) -> dict[str, Any]:
        """Fitted attributes after a round; no user is kept."""
        model, k = fitted.model, self.n_components
        server = self._engine(model.n_items)
        server.__dict__.update(fitted.without_users().attributes(), n_features_in_=2)
        components = np.ones((len(model.user_prior_mean), model.n_items), fitted.target_dtype)
        components[:k] = model.item_factors.T
        return {
            "estimator_": server,
            "components_": components,
            "mean_": (model.global_mean + model.item_bias).astype(fitted.target_dtype),
            "exchanges_": server.exchanges_,
            "history_": server.history_,
            "n_iter_": server.n_iter_,
        }

    def transform(self, X: Any) -> np.ndarray:
        """Rebuild the user of every row from its ratings.

        Parameters
        ----------
        X : array-like of shape (n_users, n_items)
            Ratings, NaN where there is none. A row without any is the average user.

        Returns
        -------
        users : ndarray of shape (n_users, n_components + fit_bias)
            Factors, and the bias after them where biases are fitted.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        users, items = np.nonzero(~np.isnan(X))
        fitted = fitted_of(self.estimator_)
        check_scale(X[users, items], self.estimator_.rating_scale)
        ratings = encode_ratings(
            users,
            items,
            X[users, items],
            None,
            n_items=X.shape[1],
            n_users=len(X),
            dtype=fitted.model.dtype,
        )
        return rebuilt(fitted, ratings, self.estimator_.n_jobs).states.astype(X.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Complete the rows that users stand for.

        Parameters
        ----------
        X : array-like of shape (n_users, n_components + fit_bias)
            Users, as `transform` returns them.

        Returns
        -------
        ratings : ndarray of shape (n_users, n_items)
            Predicted ratings of all items, clipped to ``rating_scale`` where one was
            declared.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32], ensure_min_features=0)
        if X.shape[1] != len(self.components_):
            raise ValueError(
                f"X has {X.shape[1]} columns; expected the {len(self.components_)} of transform."
            )
        return clipped(X @ self.components_ + self.mean_, self.estimator_.rating_scale)

    @property
    def _n_features_out(self) -> int:
        """Columns of what `transform` returns."""
        return len(self.components_)

    def _check(self, X, *, reset: bool) -> np.ndarray:
        """X as a matrix of numbers in which NaN may stand."""
        if sparse.issparse(X):
            raise TypeError(
                "Sparse data was passed for X, whose zeros may be ratings or none: expected an "
                "array with NaN where nothing is rated. Or fit a FederatedReconstructionMF on the "
                "table of coo = X.tocoo(): numpy.column_stack([coo.row, coo.col]), y=coo.data."
            )
        return validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
