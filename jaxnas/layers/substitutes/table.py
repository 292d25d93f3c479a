"""The kinds of substitutes by name. To add one, write its functions beside their relatives and add it here."""

from collections.abc import Mapping

from jaxnas.layers.substitutes import cosine, grouped, hashed, separable, tensors
from jaxnas.layers.substitutes.kinds import Kind, kind

KINDS: Mapping[str, Kind] = {
    "hashed": kind("bank", hashed.hashed_bounds, hashed.hashed),
    "hashed_decimate": kind("bank", hashed.decimated_bounds, hashed.hashed),
    "half_hashed_separable": kind("bank", hashed.half_hashed_separable_bounds, hashed.half_hashed_separable),
    "separable_hashed_decimate": kind("bank", hashed.half_decimated_bounds, hashed.half_hashed_separable),
    "hashed_separable": kind("bank", hashed.hashed_separable_bounds, hashed.hashed_separable),
    "acdc": kind("layers", cosine.acdc_bounds, cosine.acdc),
    "acdc_permutation": kind("layers", cosine.acdc_bounds, cosine.acdc_permutation),
    "low_rank": kind("rank", lambda dense: (1, min(dense.inputs, dense.features)), separable.low_rank),
    "shuffle": kind("groups", grouped.shuffle_bounds, grouped.shuffle),
    "tensor_train": kind("thousandths", tensors.rank_bounds, tensors.tensor_train),
    "tucker": kind("thousandths", tensors.rank_bounds, tensors.tucker),
    "separable": kind("multiplier", lambda dense: (1, 1), separable.separable),
}
