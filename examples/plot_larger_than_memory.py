"""
Ratings that do not fit into memory stay on disk
================================================

Claim: with ratings saved by `save_clients`, the memory that a fit of sampled cohorts needs does
not grow with the number of ratings.

A table has to be sorted by user before the first round, which takes memory for every row. Saved
once in the order of users, ratings are mapped from their files, and a round reads those of its
cohort.
"""

# %%
# Tables come one after the other, as they would from a database: only one is in memory. All
# ratings of a user have to be in the same one.
import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sklearn_fedrecon import FederatedReconstructionMF
from sklearn_fedrecon.datasets import ClientDataset, make_ratings, save_client_chunks

N_USERS, N_ITEMS = 4000, 1500
SIZES = (250_000, 500_000, 1_000_000, 2_000_000)


def in_chunks(X, y, n_users=500):
    """Tables of some users each; make_ratings puts rows in the order of users."""
    starts = np.searchsorted(X[:, 0], np.arange(0, N_USERS, n_users)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(y)], strict=True):
        yield X[start:stop], y[start:stop]


folder = tempfile.TemporaryDirectory()
tables, saved = {}, {}
for n_ratings in SIZES:
    table = make_ratings(N_USERS, N_ITEMS, n_ratings, random_state=0, return_X_y=True)
    path = Path(folder.name) / f"{n_ratings}"
    tables[n_ratings] = table
    saved[n_ratings] = save_client_chunks(path, in_chunks(*table)).path
print(ClientDataset(saved[SIZES[-1]]))
print(*sorted(file.name for file in saved[SIZES[-1]].iterdir()))

# %%
# The data set takes the place of X, and comes without y. What a fit allocates is counted from
# there on, so that a table that is in memory already costs nothing.


def new():
    return FederatedReconstructionMF(8, clients_per_round=50, max_iter=10, random_state=0)


def megabytes(*data):
    """Peak of the arrays that a fit of the data allocates."""
    tracemalloc.start()
    new().fit(*data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


of_table = [megabytes(*tables[n_ratings]) for n_ratings in SIZES]
of_disk = [megabytes(ClientDataset(saved[n_ratings])) for n_ratings in SIZES]

# %%
figure, axes = plt.subplots()
axes.plot(SIZES, of_table, "o-", label="fit(X, y)")
axes.plot(SIZES, of_disk, "o-", label="fit(ClientDataset(path))")
axes.set(xlabel="ratings", ylabel="peak beyond the input, MB", ylim=(0, None))
axes.set_title(f"{N_USERS} users, 10 rounds of 50")
axes.legend()

# %%
# It is the same model, to the bit.
model = new().fit(ClientDataset(saved[SIZES[0]]))
print(np.array_equal(model.item_factors_, new().fit(*tables[SIZES[0]]).item_factors_))

# %%
# Instead of cohorts that are sampled, one can go through all users in turn, by `partial_fit`.
# In random order: neighbours may be alike.
dataset = ClientDataset(saved[SIZES[0]])
streamed = FederatedReconstructionMF(8, items=dataset.items, random_state=0)
for _ in range(2):
    for chunk in dataset.chunks(400, shuffle=True, random_state=0):
        streamed.partial_fit(chunk.data, chunk.target, total_users=dataset.n_users)
print(f"training RMSE {streamed.history_['training_rmse'][-1]:.3f}")
folder.cleanup()
