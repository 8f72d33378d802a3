"""Where chunks of clients are computed: here, in a pool of joblib, on dask or on ray.

Whatever the place, a chunk is the same clients, sums are added in the same order (a tree
over the chunks, see `tree_sum`), and so the result has the same bits. Engines differ in
three things only, each a class: how the ratings are placed with the workers (once a fit),
how a step reaches them (once a round), and how what they lost is made good.
"""

from ._map import ChunkMap

__all__ = ["ChunkMap"]
