"""Settings and ratings that all tests share."""

import os

# Both are read when scipy and matplotlib are first imported.
os.environ["SCIPY_ARRAY_API"] = "1"
os.environ["MPLBACKEND"] = "Agg"

from pathlib import Path

import pytest

MOVIELENS_VARIABLE = "FEDRECON_MOVIELENS_ZIP"


@pytest.fixture(scope="session")
def small_ratings():
    """Ratings of 120 users and 60 items, with the truth that made them.

    The bunch is shared by all tests: its arrays are read-only.
    """
    from sklearn_fedrecon.datasets import make_ratings

    ratings = make_ratings(n_users=120, n_items=60, n_ratings=2400, random_state=0)
    ratings.data.flags.writeable = False
    ratings.target.flags.writeable = False
    return ratings


@pytest.fixture(scope="session")
def movielens_zip():
    """Path of an archive of MovieLens latest-small, named by an environment variable."""
    name = os.environ.get(MOVIELENS_VARIABLE)
    if not name:
        pytest.skip(f"needs real ratings: {MOVIELENS_VARIABLE} names no ml-latest-small.zip")
    path = Path(name)
    if not path.is_file():
        pytest.skip(f"needs real ratings: {MOVIELENS_VARIABLE}={name} is not a file")
    return path
