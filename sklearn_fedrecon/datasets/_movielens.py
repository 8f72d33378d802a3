"""MovieLens ratings, downloaded once and kept."""

import hashlib
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from sklearn.datasets import fetch_file, get_data_home
from sklearn.utils import Bunch

from .._compat import warn_caller
from ._archives import ARCHIVES, load_contents, read_catalogue, to_text
from ._base import ratings_bunch

MOVIELENS_ADDRESS = "https://files.grouplens.org/datasets/movielens/"

_DESCR = """\
MovieLens {variant}
===================

{n_ratings} ratings of {n_items} movies by {n_users} users of the recommender movielens.org,
published by GroupLens, University of Minnesota, at
{url}

Licence. The ratings may be used for research, with acknowledgement (cite Harper and Konstan 2015,
doi:10.1145/2827872) and without implying endorsement; not for commercial or revenue-bearing
purposes without permission. {sharing}
The README of the archive has the exact terms.

README
------

{readme}
"""
_MAY_BE_SHARED = "They may be redistributed under these same conditions only."
_MAY_NOT_BE_SHARED = "They may not be redistributed without separate permission."


@overload
def fetch_movielens(
    variant: str = ..., *, return_X_y: Literal[True], **options: Any
) -> tuple[Any, Any]: ...
@overload
def fetch_movielens(
    variant: str = ..., *, return_X_y: Literal[False] = ..., **options: Any
) -> Bunch: ...
def fetch_movielens(
    variant="latest-small",
    *,
    data_home=None,
    download_if_missing=True,
    return_X_y=False,
    as_frame=False,
    n_retries=3,
    delay=1.0,
):
    """Load MovieLens ratings, downloading them on first use.

    The archive is kept in ``data_home/movielens``, and beside it a parsed copy that makes later
    calls fast. It is checked against the checksum of the published file: a broken or different
    download is not kept. The licence (see ``DESCR``) allows research, not commercial use.

    ============  ==========  =======  ======  ===============
    variant       ratings     users    movies  scale
    ============  ==========  =======  ======  ===============
    latest-small  100,836     610      9,742   0.5, 1, ..., 5
    100k          100,000     943      1,682   1, 2, ..., 5
    1m            1,000,209   6,040    3,900   1, 2, ..., 5
    10m           10,000,054  71,567   10,681  0.5, 1, ..., 5
    20m           20,000,263  138,493  27,278  0.5, 1, ..., 5
    25m           25,000,095  162,541  62,423  0.5, 1, ..., 5
    ============  ==========  =======  ======  ===============

    The counts are those of the publisher, and of movies include some that nobody rated.

    Parameters
    ----------
    variant : {"latest-small", "100k", "1m", "10m", "20m", "25m"}, default="latest-small"
        Which of the published data sets. "latest-small" is replaced by its publisher now and
        then; results that others are to reproduce need one of the others.
    data_home : str or path-like, default=None
        Where data sets are kept. None stands for scikit-learn's own folder, see
        :func:`sklearn.datasets.get_data_home`.
    download_if_missing : bool, default=True
        False raises an error where the archive is not there, instead of downloading it.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone instead of a Bunch.
    as_frame : bool, default=False
        Return `data` as a pandas.DataFrame, `target` and `timestamps` as pandas.Series.
    n_retries : int, default=3
        How often a download that fails is tried again.
    delay : float, default=1.0
        Seconds between tries.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the entries

        data : ndarray or DataFrame of shape (n_ratings, 2)
            User and item of each rating, the ids of the archive (int64), in its order.
        target : ndarray or Series of shape (n_ratings,)
            Ratings, float64.
        timestamps : ndarray or Series of shape (n_ratings,)
            When each rating was given, in seconds since 1970-01-01 UTC.
        item_titles : dict of int to str
            Title of each item id, also of items nobody rated.
        item_genres : dict of int to tuple of str
            Genres of each item id.
        frame : DataFrame of shape (n_ratings, 4) or None
            Columns user, item, rating and timestamp, with ``as_frame=True``.
        feature_names, target_names : list of str
            Names of the columns: user and item; rating.
        DESCR : str
            What the data are, their licence and the README of the archive.

    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    OSError
        If the archive cannot be downloaded, or is not the published one, or is not there and
        must not be downloaded. The error says where to put a file fetched by other means.
    ValueError
        If `variant` is not one of the above.

    Warns
    -----
    UserWarning
        If "latest-small" is not the version known to this package; if a download is tried again.

    See Also
    --------
    load_ratings : Reads a rating file of one's own.
    make_ratings : Draws ratings of known truth; needs no network.

    References
    ----------
    .. [1] F. M. Harper and J. A. Konstan (2015). The MovieLens Datasets: History and Context.
           ACM Transactions on Interactive Intelligent Systems 5(4), 19. doi:10.1145/2827872

    Examples
    --------
    >>> from sklearn_fedrecon.datasets import fetch_movielens
    >>> ratings = fetch_movielens("latest-small")  # doctest: +SKIP
    >>> ratings.data.shape  # doctest: +SKIP
    (100836, 2)
    >>> ratings.item_titles[1]  # doctest: +SKIP
    'Toy Story (1995)'
    """
    if variant not in ARCHIVES:
        raise ValueError(f"variant must be one of {list(ARCHIVES)}; got {variant!r}.")
    archive = ARCHIVES[variant]
    url = f"{MOVIELENS_ADDRESS.rstrip('/')}/ml-{variant}.zip"
    folder = Path(get_data_home(data_home)) / "movielens"
    folder.mkdir(exist_ok=True)
    path = folder / f"ml-{variant}.zip"
    checksum = _provide(path, url, archive, download_if_missing, n_retries, delay)
    contents = load_contents(path, path.with_suffix(".parsed.npz"), archive, checksum)
    titles, genres = read_catalogue(contents)
    return ratings_bunch(
        contents["users"].astype(np.int64),
        contents["items"].astype(np.int64),
        contents["ratings"].astype(np.float64),
        timestamps=contents["timestamps"],
        return_X_y=return_X_y,
        as_frame=as_frame,
        item_titles=titles,
        item_genres=genres,
        DESCR=_describe(variant, url, archive, contents),
    )


def _provide(path, url, archive, download_if_missing, n_retries, delay):
    """See to it that the archive is at `path`, whole; returns its checksum."""
    if path.exists():
        checksum, fault = _inspect(path, archive)
        if not fault:
            return checksum
        if not download_if_missing:
            raise OSError(
                f"{path} {fault}. With download_if_missing=False it is not replaced: remove it, "
                f"or put {url} in its place."
            )
        warn_caller(f"{path} {fault}: downloading it again.", UserWarning)
        path.unlink()
    elif not download_if_missing:
        raise OSError(
            f"There is no {path}, and download_if_missing=False. Allow the download, or fetch "
            f"{url} by other means and put it there."
        )
    return _download(path, url, archive, n_retries, delay)


def _download(path, url, archive, n_retries, delay):
    """Download the archive; nothing is at `path` afterwards unless it is whole."""
    try:
        fetch_file(
            url, folder=path.parent, local_filename=path.name, n_retries=n_retries, delay=delay
        )
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{url} could not be downloaded: {error}. Nothing incomplete was kept: call again to "
            f"start anew. Where there is no network, fetch the file by other means and put it at "
            f"{path}."
        ) from error
    checksum, fault = _inspect(path, archive)
    if fault:
        path.unlink(missing_ok=True)
        raise OSError(
            f"The file downloaded from {url} {fault}. It was removed: call again to start anew."
        )
    return checksum


def _inspect(path, archive):
    """Checksum of the file, and what is wrong with it (an empty string where nothing is)."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(
            stream, lambda: hashlib.new(archive.algorithm, usedforsecurity=False)
        )
    checksum = digest.hexdigest()
    if checksum == archive.checksum:
        return checksum, ""
    if not archive.changes:
        name = archive.algorithm.upper()
        return checksum, f"has the {name} checksum {checksum} instead of {archive.checksum}"
    return checksum, "" if _is_whole_zip(path) else "is not a whole zip file"


def _is_whole_zip(path):
    """Whether every file in the zip file can be read."""
    try:
        with zipfile.ZipFile(path) as files:
            return files.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False


def _describe(variant, url, archive, contents):
    """The description of the data set."""
    return _DESCR.format(
        variant=variant,
        url=url,
        n_ratings=len(contents["ratings"]),
        n_items=np.count_nonzero(np.bincount(contents["items"])),
        n_users=np.count_nonzero(np.bincount(contents["users"])),
        sharing=_MAY_BE_SHARED if archive.may_be_shared else _MAY_NOT_BE_SHARED,
        readme=to_text(contents["readme"]),
    )
