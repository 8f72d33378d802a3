"""Who takes part: sizes, rates, and every client as often as the next one."""

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_fedrecon._types import ServerContext
from sklearn_fedrecon.sampling import FixedSampling, PoissonSampling

N = 40
BOTH = [FixedSampling, PoissonSampling]


def context(round, n_clients=N, rate=1.0, seed=5):
    return ServerContext(round, rate, n_clients, seed)


def participations(sampler, rounds=2000):
    """How often each client took part, and the sizes of the cohorts."""
    cohorts = [sampler.sample(N, context(t)) for t in range(rounds)]
    return np.bincount(np.concatenate(cohorts), minlength=N), np.array([*map(len, cohorts)])


@pytest.mark.parametrize(
    ("wanted", "size"),
    [(None, 40), (1, 1), (40, 40), (1.0, 40), (0.25, 10), (0.26, 10), (0.001, 1)],
)
def test_size_of_a_fixed_cohort(wanted, size):
    sampler = FixedSampling(wanted)
    cohort = sampler.sample(N, context(0))
    assert sampler.size(N) == len(cohort) == size
    assert sampler.rate(N) == size / N


@pytest.mark.parametrize(("wanted", "rate"), [(None, 1.0), (10, 0.25), (0.26, 0.26), (1.0, 1.0)])
def test_rate_of_poisson_sampling_is_not_rounded(wanted, rate):
    assert PoissonSampling(wanted).rate(N) == rate


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("wanted", [None, 7, 0.3])
def test_cohorts_are_ascending_and_without_repeats(kind, wanted):
    for t in range(20):
        cohort = kind(wanted).sample(N, context(t))
        assert (np.diff(cohort) > 0).all()
        assert cohort.size == 0 or (cohort[0] >= 0 and cohort[-1] < N)


@pytest.mark.parametrize("kind", BOTH)
def test_everybody_takes_part_equally_often(kind):
    counts, _ = participations(kind(0.3))
    # 40 binomial counts, each with a standard deviation of sqrt(2000 * .3 * .7) = 20.5.
    assert abs(counts.mean() - 600) < 4 * 20.5 / np.sqrt(N)
    assert np.abs(counts - 600).max() < 4 * 20.5
    assert counts.std() > 10


def test_poisson_cohorts_vary_as_a_binomial_does():
    _, sizes = participations(PoissonSampling(0.3))
    assert abs(sizes.mean() - 12) < 0.3
    assert sizes.var() == pytest.approx(N * 0.3 * 0.7, rel=0.1)
    assert participations(FixedSampling(0.3))[1].tolist() == [12] * 2000


def test_poisson_cohorts_can_be_empty():
    sizes = participations(PoissonSampling(1))[1]
    assert np.mean(sizes == 0) == pytest.approx((1 - 1 / N) ** N, abs=0.05)


@pytest.mark.parametrize("kind", BOTH)
def test_a_cohort_depends_on_seed_and_round_alone(kind):
    sampler = kind(0.3)
    first = sampler.sample(N, context(3))
    sampler.sample(N, context(4))
    assert np.array_equal(clone(sampler).sample(N, context(3, rate=0.1)), first)
    assert not np.array_equal(sampler.sample(N, context(4)), first)
    assert not np.array_equal(sampler.sample(N, context(3, seed=6)), first)


@pytest.mark.parametrize("kind", BOTH)
def test_dropout_leaves_a_random_part_of_the_cohort(kind):
    sampler = kind(0.5, dropout=0.2)
    assert sampler.rate(N) == 0.5 * (1 - 0.2)
    assert sampler.sampled_share(N) == 0.5
    kept = sampled = 0
    for t in range(500):
        cohort = sampler.sample(N, context(t))
        survivors = sampler.survivors(cohort, context(t))
        assert np.isin(survivors, cohort).all()
        kept, sampled = kept + len(survivors), sampled + len(cohort)
    assert kept / sampled == pytest.approx(0.8, abs=0.02)


def test_nobody_drops_out_by_default():
    cohort = np.arange(0, N, 3)
    assert FixedSampling(0.3).survivors(cohort, context(0)) is cohort


def test_dropout_is_not_the_draw_of_the_cohort():
    # One stream for both would make those who drop out depend on who was sampled.
    everybody, random = np.arange(N), context(2)
    dropped = np.setdiff1d(everybody, FixedSampling(dropout=0.5).survivors(everybody, random))
    assert not np.array_equal(dropped, PoissonSampling(0.5).sample(N, random))


@pytest.mark.parametrize("kind", BOTH)
def test_more_clients_than_there_are(kind):
    with pytest.raises(ValueError, match=r"clients_per_round=41 is more than the 40 users.*Lower"):
        kind(41).rate(N)
