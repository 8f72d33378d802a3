"""`FederatedReconstructionMF`: parameters and docstrings, one line a method."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

from sklearn.base import BaseEstimator, RegressorMixin

from ._compat import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    _fit_context,
)
from ._contracts import methods
from ._html import DocumentationLinkMixin
from ._recommender import Recommender
from ._training import Face, fit, partial_fit


class FederatedReconstructionMF(
    CallbackSupportMixin,
    DocumentationLinkMixin,
    Recommender,
    RegressorMixin,
    BaseEstimator,
):
    """Matrix factorization of ratings by Federated Reconstruction.

    A rating is modelled as ``global_mean + item_bias[i] + user_bias[u] + item_factors[i] .
    user_factors[u]``. The server holds the item side. A user's factor and bias live on the
    user's device: they are rebuilt there from the user's own ratings whenever they are
    needed, and never sent. In each round, clients rebuild their users and send the server
    what it needs to improve the items; a user that was never in training is served by the
    same step (`reconstruct_user`). All of it is simulated in this process.

    Clients are stateless; that is not yet privacy: one update sent in the clear reveals
    which items a user rated and, as a rule, the ratings.

    Parameters
    ----------
    n_components : int, default=16
        Length of the factors. 0 is the bias-only model.
    user_column : int or str, default=0
        Column of X that holds the users: its position, or its name in a dataframe.
    item_column : int or str, default=1
        Column of X that holds the items. Further columns are ignored.
    items : array-like of shape (n_items,), default=None
        The public catalogue. None takes the items that were rated.
    rating_scale : tuple of (float, float), default=None
        Lowest and highest rating: others are refused, predictions are clipped.
    global_mean : {"federated", "learned"} or float, default="federated"
        "federated" averages all ratings in one exchange before the first round; "learned"
        starts at 0 and is updated by clients (SGD parts); a number is used as it is.
    fit_bias : bool, default=True
        Whether users and items have a bias.
    reconstruction : str or part, default="variational"
        How users are rebuilt; see `sklearn_fedrecon.reconstruction`.
    client_update : str or part, default="auto"
        What clients compute for the items; see `sklearn_fedrecon.client_update`. Here and
        below, "auto" is the natural partner of the reconstruction.
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
        With ``early_stopping``, the smallest relative improvement of the error on held-out
        users that counts. Otherwise the smallest relative change, up or down, of the training
        loss, which is only looked at when all clients take part. None runs all rounds.
    early_stopping : bool, default=False
        Hold out users, stop when their error no longer improves, and keep the best model.
    validation_fraction : float, default=0.1
        Share of the users to hold out: the probability of each, drawn from its id and the seed.
        Half of the ratings of each are revealed.
    n_iter_no_change : int, default=5
        Rounds without such an improvement or change to wait before stopping.
    unknown_user : {"warn", "baseline", "error"}, default="warn"
        What `predict` does about users that are not known: they are predicted from the
        item, with a `ColdStartWarning` if they are more than half of the rows; without; or
        an error.
    warm_start : bool, default=False
        Continue from the last fit, for ``max_iter`` further rounds. On the same ratings two
        fits of 5 rounds then are one of 10, to the bit, with all that decides when to stop. On
        others that starts anew, and the model goes on.
    dtype : {"float32", "float64"}, default="float32"
        Type of the arithmetic. Sums of chunks of clients are added up in float64.
    n_jobs : int, default=None
        Workers that share the clients of a round: threads, unless a joblib backend is
        chosen. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed. Same seed, same result, for any order of the rows.
    verbose : int, default=0
        Whether to print a line a round.

    Attributes
    ----------
    item_factors_ : ndarray of shape (n_items, n_components)
        Server side, like all up to ``history_``. Ordered by the variance explained.
    item_bias_ : ndarray of shape (n_items,)
    item_variance_ : ndarray of shape (n_items, n_components) or None
        Posterior variances; None where the parts keep point estimates.
    item_bias_variance_ : ndarray of shape (n_items,) or None
    global_mean_ : float
    noise_variance_ : float
    user_prior_mean_ : ndarray of shape (n_components + fit_bias,)
        Prior of a user: factor, then bias.
    user_prior_variance_ : ndarray of shape (n_components + fit_bias,)
    items_ : ndarray of shape (n_items,)
        Item ids.
    n_iter_ : int
        Rounds done, earlier fits of a warm start included.
    exchanges_ : dict of str to ndarray of shape (n_exchanges,)
        What all clients were asked before the first round, and what it cost: a row each for
        the mean of the ratings and their scale, or none where both were declared.
    history_ : dict of str to ndarray of shape (n_iter_,)
        A column a measurement; ``pandas.DataFrame(history_)`` shows it.
    users_ : ndarray of shape (n_users,)
        User ids. This and the rest is on the devices, in a deployment: no server has it.
    user_factors_ : ndarray of shape (n_users, n_components)
    user_bias_ : ndarray of shape (n_users,)
    user_variance_ : ndarray of shape (n_users, n_components + fit_bias) or None
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X, where it had names.

    References
    ----------
    Singhal et al., "Federated Reconstruction: Partially Local Federated Learning", NeurIPS
    2021, arXiv:2102.03448.

    Examples
    --------
    >>> from sklearn_fedrecon import FederatedReconstructionMF
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> X, y = make_ratings(
    ...     n_users=80, n_items=40, n_ratings=1600, random_state=0, return_X_y=True
    ... )
    >>> model = FederatedReconstructionMF(n_components=4, random_state=0).fit(X, y)
    >>> model.predict(X[:3]).shape
    (3,)
    >>> new = model.reconstruct_user(items=model.items_[:3], ratings=[5, 3, 4])
    >>> new.factors.shape
    (4,)
    """

    _parameter_constraints = {  # noqa: RUF012
        "n_components": [Interval(Integral, 0, None, closed="left")],
        "user_column": [Interval(Integral, 0, None, closed="left"), str],
        "item_column": [Interval(Integral, 0, None, closed="left"), str],
        "items": ["array-like", None],
        "rating_scale": ["array-like", None],
        "global_mean": [
            StrOptions({"federated", "learned"}),
            Interval(Real, None, None, closed="neither"),
        ],
        "fit_bias": ["boolean"],
        "reconstruction": [str, HasMethods(methods("reconstruction"))],
        "client_update": [str, HasMethods(methods("client_update"))],
        "aggregator": [str, HasMethods(methods("aggregator"))],
        "server_optimizer": [str, HasMethods(methods("server_optimizer"))],
        "support_query": [str, HasMethods(methods("support_query"))],
        "clients_per_round": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
            None,
        ],
        "sampling": [StrOptions({"fixed", "poisson"})],
        "client_dropout": [Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "unknown_user": [StrOptions({"warn", "baseline", "error"})],
        "warm_start": ["boolean"],
        "dtype": [StrOptions({"float32", "float64"})],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int = 16,
        *,
        user_column: int | str = 0,
        item_column: int | str = 1,
        items: Any = None,
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
        unknown_user: str = "warn",
        warm_start: bool = False,
        dtype: str = "float32",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.user_column = user_column
        self.item_column = item_column
        self.items = items
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
        self.unknown_user = unknown_user
        self.warm_start = warm_start
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Run the rounds on a table of ratings, then rebuild every user of it.

        Parameters
        ----------
        X : {array-like, dataframe, ClientDataset} of shape (n_ratings, n_columns)
            Ratings table; ``user_column`` and ``item_column`` say who rated what. A
            `ClientDataset` is read from disk as it is needed, and comes without y.
        y : array-like of shape (n_ratings,)
            Ratings.
        sample_weight : array-like of shape (n_ratings,), default=None
            With closed forms, a rating of weight 2 counts like two; SGD parts weigh it in
            the mean of its batch. Zero leaves it out.

        Returns
        -------
        self : FederatedReconstructionMF
            Fitted estimator.

        Raises
        ------
        TypeError
            If X is sparse or an id column mixes types.
        ValueError
            If a parameter, an id, a rating or a weight is not valid, or parts do not work
            together.
        """
        given = {"X": X, "y": y, "sample_weight": sample_weight}
        fit(self, X, y, sample_weight, Face(self, given))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, total_users: int | None = None
    ) -> Self:
        """Run one round with the users given as its cohort.

        Items that the cohort did not rate do not move; items and users that are new join.
        The users given are rebuilt; others keep the state that they have.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_ratings, n_columns)
            All ratings of the users of this cohort.
        y : array-like of shape (n_ratings,)
            Ratings.
        sample_weight : array-like of shape (n_ratings,), default=None
            As in `fit`.
        total_users : int, default=None
            Size of the population that the cohort is a sample of; it scales what the cohort
            says. None: all users known after this call.

        Returns
        -------
        self : FederatedReconstructionMF
            The estimator after one more round.

        Raises
        ------
        TypeError, ValueError
            As in `fit`, and if ``total_users`` is not a number of users, or less than those
            known.
        """
        partial_fit(self, X, y, sample_weight, total_users)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.regressor_tags.poor_score = True
        return tags
