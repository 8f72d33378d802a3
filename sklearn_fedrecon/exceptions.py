"""Warnings that are particular to recommenders."""


class ColdStartWarning(UserWarning):
    """More than half of the rows of a prediction belong to users that are not known.

    Such rows are predicted from the item alone. Splitting a table that is sorted by user
    without shuffling it is the usual cause.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_fedrecon.exceptions import ColdStartWarning
    >>> warnings.simplefilter("error", ColdStartWarning)  # stop instead of warning
    >>> warnings.simplefilter("default", ColdStartWarning)
    """
