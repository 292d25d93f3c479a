"""The estimators on one binarised convolution of a small residual network on images, raw or trained.

Coordinate differences (CDG), measured on a sample of the kernel's coordinates, are the truth that the gradients of the
other estimators are compared with; see layer_gradients.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import named
from jaxnas.core.threads import kept
from jaxnas.data.sources import load
from jaxnas.evaluate.lab import checks, contenders, real_layer_findings
from jaxnas.evaluate.lab.findings import Cell, Experiment
from jaxnas.evaluate.lab.image_problems import problems
from jaxnas.evaluate.lab.layer_gradients import ESTIMATORS, Layer, compiled, cosine, step_losses

STUDENTS = ("raw", "trained")


def real_layer(
    *,
    seed: int,
    data: str,
    path: str,
    channels: Sequence[int],
    blocks: int,
    layers: Sequence[int],
    binary_weights: bool,
    students: Sequence[str],
    training: int,
    inits: int,
    batches: int,
    batch_size: int,
    estimators: Sequence[str],
    sigma: float,
    epsilon: float,
    coordinates: int,
    rates: Sequence[float],
) -> Experiment:
    """Cosine to CDG, and the loss decrease after one step along each gradient; one cell per gradient.

    Lengths are in units of the kernel: σ and ε of its root mean square, rates of its length, because normalisation
    makes the loss blind to the kernel's scale.

    Args:
      seed: of students, batches and draws.
      data, path: what jaxnas.data.sources.load takes ("" for no path).
      channels, blocks: of the network, see sign_resnet.init.
      layers: numbers of the blocks whose convolution is looked at, one at a time.
      binary_weights: whether all blocks' kernels act by their signs.
      students: "raw", "trained" (so many steps with the vanilla STE) or both.
      training: steps of Adam on batches of 128.
      inits, batches: students, and training images drawn for each of them, `batch_size` at a time.
      estimators: labels, see contenders.contender: the STEs, "sr_ste", "cdg" and NES.
      coordinates: how many of the kernel's coordinates CDG measures.
      rates: (smallest, largest, how many), geometrically spaced.

    Raises:
      UserError: for names that are not known, layers that the network does not have, more coordinates than a kernel
        has, numbers of things below one, and whatever is wrong with the data.
    """
    grid = np.geomspace(*checks.checked_range("rates", rates))
    compared = contenders.chosen(estimators, sigma=sigma, epsilon=epsilon)
    for label, who in compared.items():
        if who.name not in ESTIMATORS:
            raise UserError(f"{label!r} is for networks of full layers; here there are {', '.join(ESTIMATORS)}.")
    checks.check_list("students", students, lambda _, kind: choose("student", kind, dict.fromkeys(STUDENTS)))
    checks.check_counts(inits=inits, batches=batches)
    checks.check_flag("binary_weights", binary_weights)
    checks.check_list("layers", layers, lambda name, layer: checks.check_count(name, layer, 0))
    for name, value in (("data", data), ("path", path)):
        checks.check_text(name, value)
    cells = contenders.grid(
        layer=layers, student=students, init=range(inits), batch=range(batches), estimator=estimators
    )
    made = problems(
        seed=seed,
        dataset=load(data, path or None),
        channels=channels,
        blocks=blocks,
        binary_weights=binary_weights,
        training=training,
        batch_size=batch_size,
    )
    _check_layers(layers, channels, blocks, coordinates)
    truth_of_cdg = contenders.chosen(["cdg"], sigma=sigma, epsilon=epsilon)["cdg"]
    gradients = {
        (layer, who): compiled(Layer(layer, binary_weights), one, coordinates)
        for layer in layers
        for who, one in {**compared, "truth": truth_of_cdg}.items()
    }
    sweeps = {layer: step_losses(Layer(layer, binary_weights), jnp.asarray(grid, jnp.float32)) for layer in layers}

    @kept
    def truth(layer: int, init: int, batch: int, kind: str) -> np.ndarray:
        problem = made.problem(init, batch, kind)
        return np.asarray(gradients[layer, "truth"](named(problem.key, "truth"), problem.params, problem.batch))

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        layer, where = cell["layer"], (cell["init"], cell["batch"], cell["student"])
        problem, target = made.problem(*where), truth(layer, *where)
        # CDG itself takes its step along the differences that the truth consists of.
        who = "truth" if compared[cell["estimator"]].name == "cdg" else cell["estimator"]
        gradient = target
        if who != "truth":
            key = named(problem.key, compared[who].title)
            gradient = np.asarray(gradients[layer, who](key, problem.params, problem.batch))
        before, losses = sweeps[layer](problem.params, problem.batch, jnp.nan_to_num(gradient))
        best = int(np.argmin(losses))
        return {
            "accuracy": np.asarray(made.accuracy(cell["init"], cell["student"])),
            "cosine": np.asarray(cosine(gradient, target)),
            "before": np.asarray(before, np.float64),
            "best_rate": np.asarray(grid[best]),
            "best_decrease": np.asarray(before - losses[best], np.float64),
            "decrease": np.asarray(before - losses, np.float64),
        }

    scalars = dict.fromkeys(("accuracy", "cosine", "before", "best_rate", "best_decrease"), ())
    titles = {label: who.title for label, who in compared.items()}
    return Experiment(
        "real_layer",
        cells,
        scalars | {"decrease": grid.shape},
        measure,
        lambda measured: real_layer_findings.findings(cells, titles, grid, coordinates, measured),
    )


def _check_layers(layers: Sequence[int], channels: Sequence[int], blocks: int, coordinates: int) -> None:
    checks.check_counts(coordinates=coordinates)
    widths = [width for width in channels for _ in range(blocks)]
    for layer in layers:
        if not 0 <= layer < len(widths):
            raise UserError(f"layers must be numbers of blocks, 0 ... {len(widths) - 1}, not {layer}.")
        size = 9 * widths[max(layer - 1, 0)] * widths[layer]
        if coordinates > size:
            raise UserError(f"coordinates must be at most {size}, all of layer {layer}, not {coordinates}.")
