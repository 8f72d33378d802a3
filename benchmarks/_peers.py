"""Other libraries, each behind the same two functions; all imports are inside.

`FITS` maps a name to (package, settings as text, fit, settings). A fit takes the training
table (int64 ids, from 0), its ratings and the test table, and returns predictions for the
latter, the CPU seconds of training alone, and those of making the library's own data set of
the table. `ITERATIONS` maps a name to (package, maker, settings): the maker takes ratings as a
sparse matrix and a number of factors, and returns a function that runs that many iterations.
"""

from __future__ import annotations

import time

import numpy as np
from scipy import sparse


def cmfrec_fit(X, y, X_test, **settings):
    from cmfrec import CMF

    model = CMF(nthreads=1, random_state=0, **settings)
    clock = [time.process_time()]
    matrix = sparse.coo_matrix((y, (X[:, 0], X[:, 1])))
    clock.append(time.process_time())
    model.fit(matrix)
    clock.append(time.process_time())
    return model.predict(X_test[:, 0], X_test[:, 1]), *seconds(clock)


def cornac_fit(X, y, X_test, **settings):
    from cornac.data import Dataset
    from cornac.models import MF

    clock = [time.process_time()]
    rows = list(zip(X[:, 0].tolist(), X[:, 1].tolist(), y.tolist(), strict=True))
    data = Dataset.from_uir(rows, seed=0)
    model = MF(num_threads=1, seed=0, **settings)
    clock.append(time.process_time())
    model.fit(data)
    clock.append(time.process_time())
    users, items = _positions(X_test[:, 0], data.uid_map), _positions(X_test[:, 1], data.iid_map)
    factors, bias = (model.u_factors, model.i_factors), (model.u_biases, model.i_biases)
    known = (users >= 0) & (items >= 0)
    predicted = np.full(len(users), float(model.global_mean))
    u, i = users[known], items[known]
    predicted[known] += bias[0][u] + bias[1][i]
    predicted[known] += np.einsum("rk,rk->r", factors[0][u], factors[1][i])
    return predicted, *seconds(clock)


def _positions(ids: np.ndarray, mapping) -> np.ndarray:
    return np.array([mapping.get(value, -1) for value in ids.tolist()])


def surprise_fit(X, y, X_test, **settings):
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    clock = [time.process_time()]
    frame = pd.DataFrame({"user": X[:, 0], "item": X[:, 1], "rating": y})
    data = Dataset.load_from_df(frame, Reader(rating_scale=(y.min(), y.max())))
    data = data.build_full_trainset()
    clock.append(time.process_time())
    model = SVD(random_state=0, **settings).fit(data)
    clock.append(time.process_time())
    predicted = [model.predict(user, item).est for user, item in X_test.tolist()]
    return np.array(predicted), *seconds(clock)


def lenskit_fit(X, y, X_test, **settings):
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.data import ItemList, RecQuery, from_interactions_df
    from lenskit.training import TrainingOptions

    clock = [time.process_time()]
    frame = pd.DataFrame({"user_id": X[:, 0], "item_id": X[:, 1], "rating": y})
    data = from_interactions_df(frame)
    clock.append(time.process_time())
    model = BiasedMFScorer(**settings)
    model.train(data, TrainingOptions(rng=0))
    clock.append(time.process_time())
    predicted = np.full(len(X_test), y.mean())
    order = np.argsort(X_test[:, 0], kind="stable")
    users, starts = np.unique(X_test[order, 0], return_index=True)
    for user, rows in zip(users.tolist(), np.split(order, starts[1:]), strict=True):
        query = RecQuery(user_id=user, user_items=data.user_row(user))
        scores = model(query, ItemList(item_ids=X_test[rows, 1])).scores()
        predicted[rows] = np.where(np.isfinite(scores), scores, predicted[rows])
    return predicted, *seconds(clock)


def seconds(clock: list[float]) -> tuple[float, float]:
    """Of training, and of what came before it."""
    return clock[2] - clock[1], clock[1] - clock[0]


FITS = {
    "cornac MF": ("cornac", "defaults: k=10, 20 epochs", cornac_fit, {}),
    "cornac MF, larger": (
        "cornac",
        "k=50, lambda_reg=0.04",
        cornac_fit,
        {"k": 50, "lambda_reg": 0.04},
    ),
    "surprise SVD": ("scikit-surprise", "defaults: 100 factors, 20 epochs", surprise_fit, {}),
    "surprise SVD, more epochs": (
        "scikit-surprise",
        "50 factors, 40 epochs, reg 0.05",
        surprise_fit,
        {"n_factors": 50, "n_epochs": 40, "reg_all": 0.05},
    ),
    "cmfrec CMF": ("cmfrec", "defaults: ALS, k=40, lambda_=10", cmfrec_fit, {}),
    "cmfrec CMF, scaled": (
        "cmfrec",
        "ALS, k=40, lambda_=0.05, scale_lam",
        cmfrec_fit,
        {"lambda_": 0.05, "scale_lam": True},
    ),
    "lenskit BiasedMF": ("lenskit", "defaults: ALS", lenskit_fit, {}),
}


def cmfrec_iterations(matrix: sparse.csr_matrix, k: int, *, use_cg: bool):
    from cmfrec import CMF

    coo = matrix.tocoo()

    def run(n):
        CMF(
            k=k,
            niter=n,
            use_cg=use_cg,
            finalize_chol=False,
            precompute_for_predictions=False,
            nthreads=1,
            random_state=0,
        ).fit(coo)

    return run


def implicit_iterations(matrix: sparse.csr_matrix, k: int, *, use_cg: bool):
    from implicit.cpu.als import AlternatingLeastSquares

    def run(n):
        AlternatingLeastSquares(
            factors=k, iterations=n, use_cg=use_cg, num_threads=1, random_state=0
        ).fit(matrix, show_progress=False)

    return run


ITERATIONS = {
    "cmfrec, Cholesky": ("cmfrec", cmfrec_iterations, {"use_cg": False}),
    "cmfrec, conjugate gradient": ("cmfrec", cmfrec_iterations, {"use_cg": True}),
    "implicit, Cholesky": ("implicit", implicit_iterations, {"use_cg": False}),
    "implicit, conjugate gradient": ("implicit", implicit_iterations, {"use_cg": True}),
}
