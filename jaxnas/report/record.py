"""What the report of a run is made of: plain values and NumPy arrays, nothing that needs JAX."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class RunRecord(NamedTuple):
    """Everything that one search left behind. Accuracies are fractions of 1; whatever a method lacks is left out.

    config: nested plain values.
    result: the content of result.json.
    history: {name: [seeds, epochs]} for train_loss, train_accuracy, valid_loss, valid_accuracy and entropy (nats), and
        {"probabilities/<part>": [seeds, epochs, edges, ops]}; seeds as in result["seeds"].
    options: {part: names of its operations}, the last axis of the probabilities.
    edges: (source, node) of every edge, the axis before it; sources 0 and 1 are the inputs, source i + 2 is node i.
        Empty where the space is not one of two cells.
    rows: {part: a name for every choice}.
    retraining: {"found" or "random": {"loss" or "accuracy": [seeds, epochs]}}, on the training split.
    """

    config: Mapping[str, Any]
    result: Mapping[str, Any]
    history: Mapping[str, np.ndarray]
    options: Mapping[str, Sequence[str]]
    edges: Sequence[tuple[int, int]]
    rows: Mapping[str, Sequence[str]]
    retraining: Mapping[str, Mapping[str, np.ndarray]]


def parts(record: RunRecord) -> tuple[str, ...]:
    """The parts of the space whose probabilities were recorded for at least one epoch."""
    return tuple(part for part in record.options if record.history.get(f"probabilities/{part}", np.zeros(0)).size)


def seeds(record: RunRecord) -> tuple[int, ...]:
    """The seeds, the selected one first."""
    selected = record.result.get("selected_seed")
    return tuple(
        sorted(record.result["seeds"], key=lambda seed: (seed != selected, record.result["seeds"].index(seed)))
    )


def of_seed(record: RunRecord, seed: int) -> Mapping[str, Any]:
    """The entry of `per_seed` for one seed, empty where there is none."""
    return next((entry for entry in record.result.get("per_seed", ()) if entry["seed"] == seed), {})


def source_name(source: int) -> str:
    """The literature's name of a source: c_{k-2} and c_{k-1}, the outputs of the two cells before, then the nodes."""
    return ("c_{k-2}", "c_{k-1}")[source] if source < 2 else str(source - 2)
