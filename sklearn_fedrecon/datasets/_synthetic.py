"""Ratings drawn from a known model."""

import numbers
from typing import Any, Literal, overload

import numpy as np
from sklearn.utils import Bunch, check_random_state, check_scalar

from ._activity import activity_limits, choose_items, scale_to_total
from ._base import factor_products, ratings_bunch

_DESCR = """\
Ratings drawn from a matrix factorization model

{n_ratings} ratings of {n_items} items by {n_users} users; every user rates distinct items, the
more popular ones more often. rating = global mean + user bias + item bias + user factors . item
factors + noise{rounding}. Rows are sorted by user, then by item. Nobody's ratings are in here.
"""


@overload
def make_ratings(
    n_users: int = ...,
    n_items: int = ...,
    n_ratings: int = ...,
    *,
    return_X_y: Literal[True],
    **options: Any,
) -> tuple[Any, Any]: ...
@overload
def make_ratings(
    n_users: int = ...,
    n_items: int = ...,
    n_ratings: int = ...,
    *,
    return_X_y: Literal[False] = ...,
    **options: Any,
) -> Bunch: ...
def make_ratings(
    n_users=6040,
    n_items=3706,
    n_ratings=1_000_000,
    *,
    n_components=20,
    spectrum="decaying",
    component_variance=0.2,
    user_bias_std=0.35,
    item_bias_std=0.5,
    global_mean=3.58,
    noise_std=0.8,
    rating_scale=(1, 5),
    rounded=True,
    activity_std=1.0,
    min_ratings_per_user=None,
    max_ratings_per_user=None,
    popularity_exponent=0.8,
    random_state=None,
    return_X_y=False,
    as_frame=False,
):
    """Draw ratings whose truth is known.

    The defaults have the size, the skew and about the spread of ratings of a million movie
    ratings: a few users rate very much, a few items are rated very often, and latent structure
    explains less than the noise. Because the truth is returned, so are the noise floor (no
    model can do better) and, through :func:`oracle_predict`, what the best possible
    reconstruction of a user reaches.

    Parameters
    ----------
    n_users : int, default=6040
        Number of users.
    n_items : int, default=3706
        Number of items in the catalogue. Not every one need be rated.
    n_ratings : int, default=1_000_000
        Number of ratings, met exactly.
    n_components : int, default=20
        Number of latent components of the truth; 0 leaves the biases alone.
    spectrum : {"decaying", "flat"} or array-like of shape (n_components,), default="decaying"
        How much variance each component adds to the ratings: in proportion to 1, 1/2, 1/3, ...,
        equally much, or the variances given. A flat spectrum makes latent structure far easier
        to find than it is in real ratings.
    component_variance : float, default=0.2
        Variance all components add together. Not used where `spectrum` is an array.
    user_bias_std, item_bias_std : float, default=0.35, 0.5
        Standard deviation of the biases, in units of ratings.
    global_mean : float, default=3.58
        Mean of the ratings before they are rounded and clipped.
    noise_std : float, default=0.8
        Standard deviation of the noise, in units of ratings.
    rating_scale : tuple (lowest, highest), default=(1, 5)
        Where rounded ratings are clipped. Not used with ``rounded=False``.
    rounded : bool, default=True
        Round ratings to whole numbers and clip them to `rating_scale`. False leaves them as
        they were drawn.
    activity_std : float, default=1.0
        Standard deviation of the logarithm of a user's number of ratings, before the limits
        below, at most 10; 0 makes all users alike.
    min_ratings_per_user : int, default=None
        Fewest ratings of a user. None stands for 20, or half the mean number of ratings of a
        user where that is less.
    max_ratings_per_user : int, default=None
        Most ratings of a user. None stands for 60 % of the items.
    popularity_exponent : float, default=0.8
        The item of popularity rank k is drawn with probability in proportion to
        ``1 / k ** popularity_exponent``. Ranks are dealt out to item ids at random.
    random_state : int, RandomState instance or None, default=None
        Determines everything that is drawn. Pass an int for the same ratings every time. Items,
        users, choices and noise have streams of their own: another `noise_std` keeps the truth
        and who rated what.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone instead of a Bunch.
    as_frame : bool, default=False
        Return `data` as a pandas.DataFrame and `target` as a pandas.Series.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object. The ratings:

        data : ndarray or DataFrame of shape (n_ratings, 2)
            User and item of each rating, ids 0, 1, 2, ..., rows sorted by user, then item.
        target : ndarray or Series of shape (n_ratings,)
            Ratings.
        expected_ratings : ndarray of shape (n_ratings,)
            The same ratings before noise, rounding and clipping.
        frame : DataFrame of shape (n_ratings, 3) or None
            `data` and `target` side by side, with ``as_frame=True``.
        feature_names, target_names : list of str
            Names of the columns: user and item; rating.
        DESCR : str
            What the data are.

        The truth:

        user_factors : ndarray of shape (n_users, n_components)
            Drawn from N(0, diag(component_variances)).
        item_factors : ndarray of shape (n_items, n_components)
            Drawn from N(0, 1).
        user_bias, item_bias : ndarray of shape (n_users,), (n_items,)
            Drawn from N(0, user_bias_std ** 2) and N(0, item_bias_std ** 2).
        item_popularity : ndarray of shape (n_items,)
            Probability that a draw picks the item; sums to 1.
        component_variances : ndarray of shape (n_components,)
            Variance each component adds to the ratings.
        global_mean, user_bias_std, item_bias_std, noise_std : float
            As given.
        rating_scale : tuple (lowest, highest) or None
            As given; None with ``rounded=False``.

    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or if the users cannot hold `n_ratings`.
    TypeError
        If a parameter is not a number where one is expected.

    See Also
    --------
    oracle_predict : The best predictions, from the truth.

    Notes
    -----
    The number of ratings of a user is a log-normal draw, scaled so that after clipping to the
    limits the total is `n_ratings`. A user's items are then drawn without replacement [1]_. The
    time taken grows with ``n_users * n_items``.

    References
    ----------
    .. [1] P. S. Efraimidis and P. G. Spirakis (2006). Weighted random sampling with a
           reservoir. Information Processing Letters 97(5), 181-185.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_fedrecon.datasets import make_ratings
    >>> ratings = make_ratings(n_users=100, n_items=80, n_ratings=2000, random_state=0)
    >>> ratings.data.shape, ratings.target.shape
    ((2000, 2), (2000,))
    >>> np.unique(ratings.target)
    array([1., 2., 3., 4., 5.])

    The error of a model that knows everything but the noise:

    >>> floor = np.clip(ratings.expected_ratings, *ratings.rating_scale) - ratings.target
    >>> print(f"{np.sqrt(np.mean(floor**2)):.2f}")
    0.78
    """
    for name, value in {"n_users": n_users, "n_items": n_items, "n_ratings": n_ratings}.items():
        check_scalar(value, name, numbers.Integral, min_val=1)
    _check_real(noise_std, "noise_std", smallest=0)
    _check_real(activity_std, "activity_std", smallest=0, largest=10)
    scale = _check_scale(rating_scale) if rounded else None
    variances = _component_variances(spectrum, n_components, component_variance)
    limits = activity_limits(
        n_users, n_items, n_ratings, min_ratings_per_user, max_ratings_per_user
    )
    item_rng, user_rng, choice_rng, noise_rng = _streams(random_state)
    truth = {
        **_draw_items(n_items, n_components, item_bias_std, popularity_exponent, item_rng),
        **_draw_users(n_users, variances, user_bias_std, user_rng),
        "component_variances": variances,
        "global_mean": _check_real(global_mean, "global_mean"),
        "noise_std": float(noise_std),
        "rating_scale": scale,
    }
    activity = np.exp(activity_std * user_rng.standard_normal(n_users))
    counts = scale_to_total(activity, n_ratings, *limits)
    users = np.repeat(np.arange(n_users), counts)
    items = choose_items(counts, truth["item_popularity"], choice_rng)
    expected = _expected_ratings(users, items, truth)
    target = expected + noise_std * noise_rng.standard_normal(n_ratings)
    return ratings_bunch(
        users,
        items,
        target if scale is None else np.clip(np.rint(target), *scale),
        return_X_y=return_X_y,
        as_frame=as_frame,
        expected_ratings=expected,
        DESCR=_describe(n_users, n_items, n_ratings, scale),
        **truth,
    )


def _check_real(value, name, smallest=None, largest=None):
    """A finite number, as float."""
    check_scalar(value, name, numbers.Real, min_val=smallest, max_val=largest)
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value!r}.")
    return float(value)


def _check_scale(rating_scale):
    """The ends of the scale as a tuple of two floats, lowest first."""
    ends = np.asarray(rating_scale, dtype=float)
    if ends.shape != (2,) or not np.isfinite(ends).all() or ends[0] >= ends[1]:
        raise ValueError(
            f"rating_scale must be (lowest, highest) with lowest < highest; got {rating_scale!r}. "
            "For ratings that are neither rounded nor clipped pass rounded=False."
        )
    return float(ends[0]), float(ends[1])


def _component_variances(spectrum, n_components, total):
    """Variance each component adds to the ratings, shape (n_components,)."""
    check_scalar(n_components, "n_components", numbers.Integral, min_val=0)
    _check_real(total, "component_variance", smallest=0)
    if isinstance(spectrum, str):
        shapes = {
            "decaying": 1 / np.arange(1.0, n_components + 1),
            "flat": np.ones(n_components),
        }
        if spectrum not in shapes:
            raise ValueError(
                f"spectrum must be 'decaying', 'flat' or an array of {n_components} variances; "
                f"got {spectrum!r}."
            )
        return total * shapes[spectrum] / max(shapes[spectrum].sum(), 1)
    variances = np.array(spectrum, dtype=float)
    if variances.shape != (n_components,):
        raise ValueError(
            f"spectrum has shape {variances.shape} but n_components={n_components}: pass one "
            "variance for each component."
        )
    if not np.isfinite(variances).all() or (variances < 0).any():
        raise ValueError(f"spectrum must hold variances, finite and >= 0; got {spectrum!r}.")
    return variances


def _streams(random_state):
    """Four independent generators: for items, users, choices and noise."""
    entropy = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=4)
    sequences = np.random.SeedSequence(entropy.tolist()).spawn(4)
    return [np.random.default_rng(sequence) for sequence in sequences]


def _draw_items(n_items, n_components, bias_std, popularity_exponent, rng):
    """The item side of the truth."""
    _check_real(bias_std, "item_bias_std", smallest=0)
    _check_real(popularity_exponent, "popularity_exponent", smallest=0)
    # In logarithms, less the largest: no exponent overflows.
    popularity = np.exp(-popularity_exponent * np.log(np.arange(1.0, n_items + 1)))
    return {
        "item_factors": rng.standard_normal((n_items, n_components)),
        "item_bias": bias_std * rng.standard_normal(n_items),
        "item_bias_std": float(bias_std),
        "item_popularity": rng.permutation(popularity / popularity.sum()),
    }


def _draw_users(n_users, variances, bias_std, rng):
    """The user side of the truth."""
    _check_real(bias_std, "user_bias_std", smallest=0)
    return {
        "user_factors": rng.standard_normal((n_users, len(variances))) * np.sqrt(variances),
        "user_bias": bias_std * rng.standard_normal(n_users),
        "user_bias_std": float(bias_std),
    }


def _expected_ratings(users, items, truth):
    """Ratings before noise, rounding and clipping, shape (n_ratings,)."""
    expected = factor_products(truth["user_factors"], truth["item_factors"], users, items)
    expected += truth["global_mean"]
    expected += truth["user_bias"][users]
    expected += truth["item_bias"][items]
    return expected


def _describe(n_users, n_items, n_ratings, scale):
    """The description of the data set."""
    rounding = f", rounded and clipped to {scale[0]:g}..{scale[1]:g}" if scale else ""
    return _DESCR.format(n_users=n_users, n_items=n_items, n_ratings=n_ratings, rounding=rounding)
