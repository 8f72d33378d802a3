"""
What to ask somebody new
========================

Claim: a few questions chosen by `most_informative_items` tell more about a new user than as
many about popular items, or at random.

Ratings are drawn from a known truth, so that new users can answer whatever they are asked, and
errors can be measured on the whole catalogue.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import make_ratings

truth = make_ratings(
    n_users=600, n_items=200, n_ratings=30_000, component_variance=0.5, random_state=0
)
X, y = truth.data, truth.target
seen = X[:, 0] < 400
model = FederatedReconstructionMF(8, random_state=0).fit(X[seen], y[seen])
newcomers = np.arange(400, 600)

expected = truth.global_mean + truth.item_bias + truth.user_bias[newcomers, None]
expected = np.clip(expected + truth.user_factors[newcomers] @ truth.item_factors.T, 1, 5)
random = np.random.default_rng(0)
answers = np.clip(
    np.rint(expected + truth.noise_std * random.standard_normal(expected.shape)), 1, 5
)

# %%
# Nothing is known of a new user, so all of them are asked the same questions. The popular items
# are those that most people could say something about.

N = 20
well_known = model.popular_items(50)[0]
questions = {
    "at random": random.permutation(model.items_)[:N],
    "popular items": well_known[:N],
    "most informative": model.most_informative_items(n=N)[0],
    "most informative of 50 popular": model.most_informative_items(n=N, candidates=well_known)[0],
}


def error_after_answers(asked):
    """RMSE over all new users and items."""
    squares = []
    for rated, wished in zip(answers, expected, strict=True):
        own = dict(zip(asked.tolist(), rated[asked], strict=True))
        items, scores = model.recommend(own, n=200, exclude=None)
        squares.append((scores - wished[items]) ** 2)
    return np.sqrt(np.mean(squares))


STEPS = [0, 1, 2, 3, 5, 8, 12, 20]
errors = {
    name: [error_after_answers(asked[:n]) for n in STEPS] for name, asked in questions.items()
}

# %%
_, ax = plt.subplots()
for name, values in errors.items():
    ax.plot(STEPS, values, marker="o", label=name)
    print(f"{name:<32}after 5 questions: {values[STEPS.index(5)]:.3f}")
ax.set(xlabel="questions answered", ylabel="RMSE on the whole catalogue")
ax.legend()
