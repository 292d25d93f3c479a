"""What training stand-alone networks costs: steps of real programs, and single layers against what they replace."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.evaluate.description import describe_network
from jaxnas.evaluate.speed import matrix_product_rate, measure
from jaxnas.evaluation_plan import FOUND, evaluation_plan
from jaxnas.layers.convolution import convolution
from jaxnas.layers.substitutes import KINDS, within_budget
from jaxnas.layers.substitutes.kinds import Dense
from jaxnas.method_speed import measure_step, write_images
from jaxnas.train.task import rehearse

PASSES = 3  # forward, and twice as much work backward
# The 3×3 layer that stands for those of WRN-28-10's first and longest group, at half its size and batch.
LAYER, LAYER_SIZE, LAYER_BATCH = Dense((3, 3), 160, 160), 16, 32
SHARE = 0.1  # of the layer's parameters
ACDC_LAYERS = 12
VARIANTS = ("", "recomputed")


def train_suite(configs: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """Measures a training step of every config's network, with and without recomputing blocks, and single layers.

    configs: {label: an evaluation config}; data and batch size are replaced by what the measurement needs.
    """
    peak = matrix_product_rate()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = write_images(Path(folder) / "images.npz")
        for label, config in configs.items():
            for variant in VARIANTS:
                name = f"{label}, {variant}" if variant else label
                rows.append(_network(name, config, path, batch_size, bool(variant), peak))
    return {"batch_size": batch_size, "matrix_product_gflops": peak / 1e9, "networks": rows, "layers": _layers()}


def _network(name: str, config: Any, path: str, batch_size: int, recompute: bool, peak: float) -> dict[str, Any]:
    """A training step, images a second and the share of the matrix product's rate, by counted multiply-adds."""
    config = config.copy_and_resolve_references()
    config.data.update({"name": "npz", "path": path})
    config.recipe.update({"batch_size": batch_size, "epochs": 1, "schedule": "cosine", "recompute": recompute})
    config.selection.random_baseline = False
    made = evaluation_plan(config)
    network, task, data = made.training(made.candidates[FOUND][0], name)
    step = measure_step(name, task, rehearse(task, data), data)
    print(f"{name}: {step.step:.3f} s a step", file=sys.stderr)
    operations = 2 * PASSES * describe_network(network, made.images.shape)["mult_adds"] * batch_size
    return step._asdict() | {"images": batch_size / step.step, "share": operations / step.step / peak}


def _layers() -> list[dict[str, Any]]:
    """Seconds of every substitute, forward and backward, in units of the dense layer's."""
    images = jax.random.normal(jax.random.key(0), (LAYER_BATCH, LAYER_SIZE, LAYER_SIZE, LAYER.inputs))
    kernel = jax.random.normal(jax.random.key(1), (*LAYER.size, LAYER.inputs, LAYER.features))
    dense = _seconds("dense", lambda weights, images: convolution(images, weights), kernel, images)
    rows = [{"name": "dense", "ratio": 1.0, "params": LAYER.params}]
    for kind, made in KINDS.items():
        least, most = made.bounds(LAYER)
        setting = least if least == most else within_budget(kind, LAYER, int(SHARE * LAYER.params))[0]
        layer = made.build(LAYER, ACDC_LAYERS if kind.startswith("acdc") else setting)

        def run(weights: Any, images: jax.Array, layer: Any = layer) -> jax.Array:
            return layer.apply(weights, images, 1, None)

        seconds = _seconds(kind, run, layer.init(jax.random.key(2)), images)
        rows.append({"name": kind, "ratio": seconds / dense, "params": layer.params})
    return rows


def _seconds(name: str, run: Callable[..., jax.Array], weights: Any, images: jax.Array) -> float:
    """Forward, and backward to weights and images."""
    both = jax.grad(lambda weights, images: jnp.sum(jnp.square(run(weights, images))), (0, 1))
    return measure(name, both, weights, images).call
