"""The server side on its own: what a deployment would hold, and what it would send."""

from __future__ import annotations

import copy

import numpy as np
from sklearn.utils.validation import check_is_fitted

_SENT = (
    "item_factors",
    "item_bias",
    "item_variance",
    "item_bias_variance",
    "global_mean",
    "noise_variance",
    "user_prior_mean",
    "user_prior_variance",
)


class DeploymentMixin:
    """What of a fitted `FederatedReconstructionMF` would leave the simulation."""

    def forget_users(self):
        """Return a copy with the server side only: what a deployment would hold.

        Returns
        -------
        model : FederatedReconstructionMF
            Shallow copy that knows no user.
        """
        check_is_fitted(self)
        model = copy.copy(self)
        model._set(self._no_devices())
        return model

    def server_model(self):
        """Return what a server would send to a device that is to serve its user.

        Nothing of a user is in it, but it was fitted to users' ratings: see the guide on
        what leaves a device. `save_model` writes the same arrays under the same names.

        Returns
        -------
        arrays : dict of str to ndarray
            Copies. ``items`` (n_items,), the ids; ``item_factors`` (n_items, n_components) and
            ``item_bias`` (n_items,), and their posterior variances ``item_variance`` and
            ``item_bias_variance`` where the parts give them; ``global_mean`` and
            ``noise_variance``, both (); ``user_prior_mean`` and ``user_prior_variance``
            (n_components + fit_bias,); and ``rating_scale`` (2,) where one was declared.
        """
        check_is_fitted(self)
        model = self._state.model
        values = {name: getattr(model, name) for name in _SENT}
        arrays = {"items": self.items_.copy()} | {
            name: np.array(value) for name, value in values.items() if value is not None
        }
        if self.rating_scale is not None:
            arrays["rating_scale"] = np.array(self._scale_bounds())
        return arrays
