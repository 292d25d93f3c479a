"""What the report of a run is made of: plain values and NumPy arrays, nothing that needs JAX."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.spaces.genotype import Genotype, parse_genotype

CELLS = ("normal", "reduce")  # the parts of a space of two cells
NONE = "none"  # the option that stands for an edge that is not there


class RunRecord(NamedTuple):
    """Everything that one search left behind. Accuracies are fractions of 1; whatever a method lacks is left out.

    config: nested plain values.
    result: the content of result.json.
    history: {name: [seeds, epochs]} for train_loss, train_accuracy, valid_loss, valid_accuracy, entropy (nats),
        logits_cost (the expected cost in `cost_unit`), curvature (the dominant eigenvalue of the Hessian of the
        validation loss in the logits) and, for every part, skips/<part>, pools/<part> and dominant/<part> (shares of
        the choices, 0 to 1), of searches by rewards also reward/sampled, reward/argmax, reward/argmin, reward/best,
        policy/entropy and policy/effective_sample_size (see methods.policy_updates), of nested networks trained
        together also accuracy/smallest, accuracy/middle and accuracy/largest; [seeds, epochs, choices] for
        architecture/<part> (option numbers) and entropy/<part> (nats); [seeds, epochs, choices, options] for
        probabilities/<part>. Seeds as in result["seeds"].
    options: {part: names of its options}, the last axis of the probabilities.
    edges: (source, node) of every edge, the axis before it; sources 0 and 1 are the inputs, source i + 2 is node i.
        Empty where the space is not one of two cells.
    rows: {part: a name for every choice}.
    retraining: {"found" or "random": {"loss" or "accuracy": [seeds, epochs]}}, on the training split.
    stages: (name, epochs) of every stage of a progressive search, in order; empty where there is one only.
    true: {"accuracy": [seeds, epochs]}, the accuracy that a table gives for the architecture derived at each epoch.
    table: {"best" or "mean": accuracy} over all architectures of that table; result["table_metric"] says of what.
    cost_unit: the unit of costs that are neither parameters nor mult-adds, such as "ms".
    found: {part: [seeds, choices]}, the option numbers of what every seed derived; where it lacks a part, the last
        epoch's architecture is taken, which differs only after a search that was stopped early.
    """

    config: Mapping[str, Any]
    result: Mapping[str, Any]
    history: Mapping[str, np.ndarray]
    options: Mapping[str, Sequence[str]]
    edges: Sequence[tuple[int, int]]
    rows: Mapping[str, Sequence[str]]
    retraining: Mapping[str, Mapping[str, np.ndarray]]
    stages: Sequence[tuple[str, int]] = ()
    true: Mapping[str, np.ndarray] = {}
    table: Mapping[str, float] = {}
    cost_unit: str = ""
    found: Mapping[str, np.ndarray] = {}


class Part(NamedTuple):
    """The choices of one part of a space, as figures show them.

    name: the part's. options: names, the last axis of its probabilities. rows: a name for every choice.
    edges: (source, node) of every choice where these are the edges of a graph, numbered as in `states`, else ().
    states: names of the graph's sources. groups: choices with the same value belong together.
    """

    name: str
    options: Sequence[str]
    rows: Sequence[str]
    edges: Sequence[tuple[int, int]]
    states: Sequence[str]
    groups: Sequence[object]


def part_of(record: RunRecord, name: str) -> Part:
    """A part of the record's space.

    The edges of a graph are told by `record.edges` or by names of choices such as "0 → 1"; choices of a chain whose
    names differ in the last word, such as "stage 2 block 1" and "stage 2 block 2", belong together.
    """
    options = record.options[name]
    if record.edges and name in CELLS:
        states = [source_name(source) for source in range(2 + len(record.edges))]
        rows = [f"{states[source]} → {node}" for source, node in record.edges]
        return Part(name, options, rows, record.edges, states, [node for _, node in record.edges])
    rows = record.rows.get(name) or [f"choice {number}" for number in range(1, _choices(record, name) + 1)]
    matches = [re.fullmatch(r"(\d+) → (\d+)", row) for row in rows]
    if rows and all(matches):
        edges = [(int(match[1]), int(match[2])) for match in matches if match]
        states = [str(state) for state in range(1 + max(max(edge) for edge in edges))]
        return Part(name, options, rows, edges, states, [node for _, node in edges])
    return Part(name, options, rows, (), (), [row.rpartition(" ")[0] for row in rows])


def _choices(record: RunRecord, name: str) -> int:
    """The number of a part's choices, 0 where no history has it."""
    shapes = (
        record.history[each].shape
        for each in (f"architecture/{name}", f"probabilities/{name}")
        if each in record.history
    )
    return next((shape[2] for shape in shapes), 0)


def derived(record: RunRecord, name: str, seed: int) -> tuple[str | None, ...]:
    """The option that one seed derived for every choice of a part, None for edges that a cell does not keep.

    Empty where nobody knows.
    """
    if record.edges and name in CELLS:
        genotype = of_seed(record, seed).get("genotype")
        kept, _ = cell_of(parse_genotype(genotype), name) if genotype else ((), ())
        operations = {(source, number // 2): operation for number, (operation, source) in enumerate(kept)}
        return tuple(operations.get(edge) for edge in record.edges) if kept else ()
    at = list(record.result["seeds"]).index(seed)
    numbers = record.found.get(name)
    if numbers is None:
        epochs = record.history.get(f"architecture/{name}", np.zeros((1, 0)))
        numbers = epochs[:, -1] if epochs.shape[1] else None
    return () if numbers is None else tuple(record.options[name][int(number)] for number in numbers[at])


def cell_of(genotype: Genotype, part: str) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    """The edges and the concatenated states of a part of a genotype; both empty for a part that it does not have."""
    cells = {
        "normal": (genotype.normal, genotype.normal_concat),
        "reduce": (genotype.reduce, genotype.reduce_concat),
    }
    return cells.get(part, ((), ()))


def noun(record: RunRecord) -> str:
    """What the space's architectures are called: cells, or where they are something else, architectures."""
    return "cell" if record.edges or set(record.options) == {"cell"} else "architecture"


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
