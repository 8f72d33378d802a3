"""Which ratings reconstruct and which update."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_fedrecon._random import Stream, _mixed, client_words
from sklearn_fedrecon._types import ClientRatings, DeviceContext
from sklearn_fedrecon.splitting import BatchParitySplit, NoSplit, RandomSplit

CONTEXT = DeviceContext(round=3, seed=7)


def numbered(lengths, clients=None):
    """Ratings whose values are their positions."""
    n = sum(lengths)
    return ClientRatings(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.arange(n, dtype=np.int32),
        values=np.arange(n, dtype=float),
        n_items=max(n, 1),
        clients=np.arange(len(lengths)) if clients is None else np.asarray(clients),
        weights=np.arange(n) + 0.5,
    )


def by_client(ratings):
    return [values.tolist() for values in np.split(ratings.values, ratings.indptr[1:-1])]


def test_no_split_hands_on_what_it_was_given():
    ratings = numbered([3, 0, 5])
    support, query = NoSplit().split(ratings, CONTEXT)
    assert support is ratings
    assert query is ratings
    assert NoSplit().whole(ratings, CONTEXT) is ratings
    assert RandomSplit(None).split(ratings, CONTEXT) == (ratings, ratings)


def test_no_split_with_batches_gives_the_same_object_twice():
    support, query = NoSplit(batch_size=2).split(numbered([3, 5]), CONTEXT)
    assert support is query
    assert support.batch_size == 2


def test_batches_are_dealt_out_in_turn():
    split = BatchParitySplit(batch_size=2, shuffle=False)
    support, query = split.split(numbered([5, 2, 0, 1, 8]), CONTEXT)
    assert by_client(support) == [[0, 1, 4], [5, 6], [], [7], [8, 9, 12, 13]]
    assert by_client(query) == [[2, 3], [], [], [], [10, 11, 14, 15]]
    assert support.batch_size == query.batch_size == 2
    np.testing.assert_array_equal(support.weights, support.values + 0.5)
    np.testing.assert_array_equal(query.items, query.values)


@pytest.mark.parametrize("split", [NoSplit(3, shuffle=False), BatchParitySplit(3, shuffle=False)])
def test_limit_without_shuffling_takes_the_first(split):
    ratings = numbered([6, 2, 4, 5])
    used = split.set_params(max_ratings=4).used(ratings, CONTEXT)
    assert by_client(used) == [[0, 1, 2, 3], [6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert by_client(split.whole(ratings, CONTEXT)) == by_client(ratings)  # serving has no limit


@pytest.mark.parametrize(
    "split",
    [NoSplit(3, max_ratings=7), BatchParitySplit(3, max_ratings=7), RandomSplit(max_ratings=7)],
)
def test_limit_with_shuffling_takes_any(split):
    ratings = numbered([20, 5])
    kept = [by_client(split.used(ratings, replace(CONTEXT, round=t))) for t in range(40)]
    assert all([len(first), len(second)] == [7, 5] for first, second in kept)
    assert {value for first, _ in kept for value in first} == set(range(20))


@pytest.mark.parametrize("split", [BatchParitySplit(2), RandomSplit(0.4)])
def test_halves_partition_the_ratings_of_every_client(split):
    ratings = numbered([9, 0, 1, 30])
    support, query = split.split(ratings, CONTEXT)
    for client in range(4):
        halves = by_client(support)[client] + by_client(query)[client]
        assert sorted(halves) == by_client(ratings)[client]
    assert by_client(support)[3] != sorted(by_client(support)[3])


@pytest.mark.parametrize(
    ("fraction", "sizes"), [(0.5, [0, 1, 1, 2, 3]), (0.0, [0] * 5), (1.0, [0, 1, 2, 3, 5])]
)
def test_random_split_rounds_the_support_up(fraction, sizes):
    support, query = RandomSplit(fraction).split(numbered([0, 1, 2, 3, 5]), CONTEXT)
    assert support.lengths.tolist() == sizes
    assert (support.lengths + query.lengths).tolist() == [0, 1, 2, 3, 5]


def test_support_size_is_not_a_matter_of_rounding_errors():
    assert 0.55 * 100 > 55
    support, _ = RandomSplit(0.55).split(numbered([100]), CONTEXT)
    assert support.n_ratings == 55


def test_every_rating_is_as_likely_to_reconstruct():
    ratings = numbered([8] * 500)
    support, _ = RandomSplit(0.25).split(ratings, CONTEXT)
    places = np.bincount(support.values.astype(int) % 8, minlength=8)
    assert places.sum() == 1000
    assert np.abs(places - 125).max() < 4 * np.sqrt(125)


@pytest.mark.parametrize("split", [NoSplit(2), BatchParitySplit(2), RandomSplit(0.5)])
def test_a_client_is_split_the_same_whoever_else_is_there(split):
    ratings = numbered([9, 4, 30])
    both = split.split(ratings, CONTEXT)
    alone = split.split(ratings.take(np.array([2])), CONTEXT)
    for together, single in zip(both, alone, strict=True):
        assert by_client(together)[2] == by_client(single)[0]


def test_order_is_new_in_every_round_or_not():
    ratings = numbered([30])
    later = replace(CONTEXT, round=4)

    def orders(shuffle, context):
        return by_client(BatchParitySplit(5, shuffle=shuffle).whole(ratings, context))

    assert orders(True, CONTEXT) != orders(True, later)
    assert orders("once", CONTEXT) == orders("once", later)
    assert orders("once", CONTEXT) != orders(False, CONTEXT)
    assert orders("once", CONTEXT) != orders("once", replace(CONTEXT, seed=8))


def test_clients_shuffle_differently():
    first, second = by_client(NoSplit(5).whole(numbered([30, 30]), CONTEXT))
    assert first != [value - 30 for value in second]


def test_words_are_splitmix64():
    """Its published sequence for the seed 1234567."""
    step = np.uint64(0x9E3779B97F4A7C15)
    words = _mixed(np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * step)
    assert words.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_words_depend_on_the_whole_key_and_on_nothing_else():
    clients, lengths = np.array([4, 2, 9]), np.array([3, 0, 5])
    words = client_words(0, Stream.SPLIT, 1, clients, lengths)
    assert words.dtype == np.uint64
    assert len(words) == 8
    alone = client_words(0, Stream.SPLIT, 1, clients[2:], np.array([7]))
    np.testing.assert_array_equal(alone[:5], words[3:])
    others = [
        client_words(1, Stream.SPLIT, 1, clients, lengths),
        client_words(0, Stream.USER_FACTORS, 1, clients, lengths),
        client_words(0, Stream.SPLIT, 2, clients, lengths),
        client_words(0, Stream.SPLIT, 1, clients + 1, lengths),
        words,
    ]
    assert len(np.unique(np.concatenate(others))) == 40


def test_words_of_neighbouring_clients_are_independent():
    words = client_words(0, Stream.SPLIT, 0, np.arange(20000), np.full(20000, 2))
    first, second = (words.reshape(-1, 2) >> np.uint64(11)).astype(float).T * 2.0**-53
    assert first.mean() == pytest.approx(0.5, abs=0.01)
    assert first.std() == pytest.approx(12**-0.5, abs=0.01)
    for a, b in [(first, second), (first[1:], first[:-1]), (second[:-1], first[1:])]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
