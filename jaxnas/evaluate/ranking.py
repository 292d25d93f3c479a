"""How well accuracies with shared weights rank architectures, against what they reach when trained by themselves.

A search chooses by the weights of its supernet, so that it can be no better than this order (Sciuto et al. 2020, Yu et
al. 2020 report that it is often poor). Kendall's τ is the share of pairs in the right order minus the share in the
wrong one, Spearman's ρ the correlation of ranks; ties count as in scipy (τ-b, mean ranks).
"""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxnas.core.types import Architecture, Array, Key, Space
from jaxnas.data.augment import Augmentation, normalize
from jaxnas.evaluate.accuracy import accuracy_on
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.layers.backend import compiler_options
from jaxnas.methods import Method
from jaxnas.search.objectives import SearchState
from jaxnas.spaces.space import random

DRAWS = 8  # for every architecture that is wanted, because small spaces repeat themselves


def random_architectures(space: Space, key: Key, count: int) -> Architecture:
    """`count` different random architectures, int32 {part: [count, choices]}.

    Those that repeat among count · DRAWS are left out, so that a space of few architectures may give fewer.
    """
    keys = jax.random.split(key, DRAWS * count)
    drawn = {part: np.asarray(rows) for part, rows in jax.jit(jax.vmap(lambda key: random(space, key)))(keys).items()}
    _, first = np.unique(np.concatenate(list(drawn.values()), axis=1), axis=0, return_index=True)
    chosen = np.sort(first)[:count]
    return {part: jax.device_put(rows[chosen]) for part, rows in drawn.items()}


def shared_weights(
    method: Method,
    data: TrainingData,
    *,
    batch_size: int,
    augmentation: Augmentation,
    calibration: Array | None = None,
) -> Callable[[SearchState, Architecture], Array]:
    """Judges architectures by their accuracy on `data` with the weights of a supernet, in one compiled program.

    Returns (state of a finished search, architectures {part: [count, choices]}) -> accuracies [count]. data: examples
    that the weights have not seen, such as the validation half. calibration: images, uint8 [count, h, w, c], whose
    statistics alone normalise (see `Method.child`); None for those of each batch of `data`.
    The architectures are judged one after another inside the program: batched, a single path would run all candidates.
    Raises ValueError for a method whose weights are not those of its architectures (`method.child` is None).
    """
    if method.child is None:
        raise ValueError("the supernet of this method has no weights for its architectures.")
    child: Callable[..., Array] = method.child
    first = None if calibration is None else jax.jit(normalize, static_argnums=0)(augmentation, calibration)

    def answer(of: tuple[SearchState, Architecture], images: Array) -> Array:
        if first is None:
            return child(*of, images)
        return child(*of, jnp.concatenate([first, images]), calibrate=len(first))[len(first) :]

    def accuracies(state: SearchState, architectures: Architecture, data: TrainingData) -> Array:
        def one(architecture: Architecture) -> Array:
            return accuracy_on(
                answer,
                (state, architecture),
                data,
                batch_size=batch_size,
                augmentation=augmentation,
            )

        return jax.lax.map(one, architectures)

    program = jax.jit(accuracies, compiler_options=compiler_options())
    return lambda state, architectures: program(state, architectures, data)


def rank_correlation(judged: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """How the order of the accuracies judged agrees with that of the true ones: {"kendall", "spearman", "count"}.

    judged, true: [count], NaN in `true` for architectures that are not known, which are left out.
    The correlations are NaN where fewer than two are known, or where all are judged (or are) the same.
    """
    known = ~np.isnan(np.asarray(true))
    judged, true = np.asarray(judged)[known], np.asarray(true)[known]
    count = len(true)
    if count < 2 or np.ptp(judged) == 0 or np.ptp(true) == 0:
        return {"kendall": np.nan, "spearman": np.nan, "count": count}
    of: Any = stats  # its results have no types
    return {
        "kendall": float(of.kendalltau(judged, true).statistic),
        "spearman": float(of.spearmanr(judged, true).statistic),
        "count": count,
    }


def kendall_interval(judged: np.ndarray, true: np.ndarray, *, resamples: int = 999) -> tuple[float, float]:
    """An interval of 95 % for the mean Kendall's τ over searches, by bootstrap over the architectures they judged.

    judged: [searches, count]. true: [count], NaN for architectures that are not known, which are left out. The
    architectures are resampled together for all searches (percentile bootstrap, Efron 1979); how searches differ is not
    in the interval. NaN where fewer than three are known, or where a resample has no order.
    """
    known = ~np.isnan(np.asarray(true))
    judged, true = np.asarray(judged)[:, known], np.asarray(true)[known]
    if len(true) < 3:
        return np.nan, np.nan
    of: Any = stats  # its results have no types

    def mean_kendall(chosen: np.ndarray) -> float:
        return float(np.mean([of.kendalltau(one[chosen], true[chosen]).statistic for one in judged]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # a resample without an order: NaN says so
        found = of.bootstrap(
            (np.arange(len(true)),),
            mean_kendall,
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return float(found.low), float(found.high)
