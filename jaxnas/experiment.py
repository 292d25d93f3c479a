"""One run from config to report: search, derive, train what was found beside a random architecture, write it down."""

import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import __version__
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array
from jaxnas.costs.constraints import derive_within
from jaxnas.costs.counting import Cost, network_cost
from jaxnas.costs.terms import bit_operations, exact_figure
from jaxnas.evaluate.accuracy import accuracy_on, evaluate
from jaxnas.evaluate.tabular import column, true_history, true_values
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.limits import Config
from jaxnas.networks.family import Images
from jaxnas.plan import Plan, Truth, plan
from jaxnas.report.page import write_report
from jaxnas.report.record import RunRecord
from jaxnas.search.monitor import sound
from jaxnas.search.objectives import SearchState
from jaxnas.search.subnets import subnet_accuracies
from jaxnas.spaces.cell import PARTS, cell_edges
from jaxnas.spaces.space import encode, random
from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog
from jaxnas.train.loop import Cadence, Outcome, Surroundings, train
from jaxnas.train.parallel import one_of
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import RunState, Task, rehearse
from jaxnas.train.workdir import ENTRIES, Workdir, begin, prepare, write_json

# Fields that may differ when a run is continued, because no result depends on them.
FREE_FIELDS = ("checkpoint", "data.path", "cost.table", "table.path")


class Trained(NamedTuple):
    """An architecture trained from scratch: what result.json says of it, its training curves, and the seconds spent."""

    entry: Mapping[str, Any]
    history: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]


class Planned(Protocol):
    """What a session reads of a plan."""

    @property
    def config(self) -> Mapping[str, Any]:
        """All fields as plain values."""
        ...

    @property
    def cadence(self) -> Cadence:
        """When to save."""
        ...


Made = TypeVar("Made", bound=Planned)


class Session(Generic[Made]):
    """The open ends of one run: its directory, its log, the request to stop, and how many steps are behind it."""

    def __init__(self, made: Made, folder: Workdir, log: MetricLog, stop: StopRequest):
        self.made, self.folder, self.log, self.stop = made, folder, log, stop
        self.steps_before = 0

    def train(self, task: Task, shapes: RunState, data: Any, seeds: tuple[int, ...], before: Any = ()) -> Outcome:
        """Runs one task of the run, from its newest checkpoint on if it has one; before: the learners it continues."""
        around = Surroundings(seeds, self.made.cadence, self.log, self.stop)
        keep = self.made.config["checkpoint"]["keep"]
        with Checkpoints(self.folder / "checkpoints" / task.name, keep=keep) as checkpoints:
            outcome = train(task, shapes, data, around, checkpoints, self.steps_before, before)
        self.steps_before += task.steps
        return outcome


def search(config: Config, workdir: str | Path) -> Mapping[str, Any]:
    """Runs the experiment that `config` describes in `workdir`, or continues it there, and returns its result.

    Writes config.json, metrics.jsonl, tensorboard/, checkpoints/, genotypes.json (as soon as the search has ended),
    result.json and report.html. A run that was stopped or killed at any moment and is started again ends in the same
    result, bit for bit. A finished run is not run again; a lost report is made again from its checkpoints.
    Raises UserError, before anything is written, for whatever is wrong with the config, the data or the directory, and
    Stopped after saving when the process was asked to stop.
    """
    made = plan(config)
    with prepare(workdir, **ENTRIES) as folder:
        result = begin(folder, made.config, FREE_FIELDS)
        if result is not None:
            return result
        with MetricLog(folder.path) as log, StopRequest() as stop:
            return _run(Session(made, folder, log, stop))


def _run(session: Session[Plan]) -> Mapping[str, Any]:
    made = session.made
    searched = _search(session)
    final, method = searched.run.learner, made.stages[-1].method
    found = final.watch.architecture
    if made.price is not None and made.price.limit:
        found = _within_limit(made, final, found)
    chosen = {seed: {"found": one_of(found, i)} for i, seed in enumerate(made.seeds)}
    of_state = method.variants
    variants = {} if of_state is None else jax.vmap(lambda state: of_state(sound(state)))(final)
    _announce(session, {seed: of_seed["found"] for seed, of_seed in chosen.items()}, variants)
    if made.config["retrain"]["random_baseline"]:
        for seed, of_seed in chosen.items():
            of_seed["random"] = random(made.space, named(jax.random.key(seed), "random_baseline"))
    trained: dict[str, list[Trained]] = {"found": [], "random": []}
    for number, (seed, of_seed) in enumerate(chosen.items()):
        state = one_of(final, number)
        for kind, architecture in of_seed.items():
            one = train_architecture(session, architecture, seed, kind)
            if made.recipe.epochs == 0 and method.child is not None:
                inherited = _inherited_accuracy(made, method.child, state, architecture)
                one = one._replace(entry={**one.entry, "inherited_accuracy": inherited})
            trained[kind].append(one)
    result = _result(made, searched, trained)
    if made.truth is not None:
        result["table_metric"] = made.truth.metric
    history = {name: np.asarray(values) for name, values in searched.run.history.items()}
    record = RunRecord(
        config=made.config,
        result=result,
        history=history,
        options=made.space.options,
        edges=cell_edges(made.config["space"]["nodes"]) if set(made.space.options) == set(PARTS) else (),
        rows=made.family.rows,
        stages=[(stage.task.name, stage.task.epochs) for stage in made.stages] if len(made.stages) > 1 else (),
        found={part: np.asarray(values) for part, values in found.items()},
        true={} if made.truth is None else {"accuracy": true_history(made.truth.table, history, *made.truth[1:])},
        table={} if made.truth is None else _table_levels(made.truth),
        cost_unit="" if made.price is None or made.config["cost"]["name"] in Cost._fields else made.price.unit,
        retraining={
            kind: _stacked([one.history for one in entries])
            for kind, entries in trained.items()
            if entries and entries[0].history
        },
    )
    write_report(session.folder / "report.html", record)
    write_json(session.folder / "result.json", result)
    return result


def _table_levels(truth: Truth) -> dict[str, float]:
    """What the report compares true accuracies with."""
    values = column(*truth)
    return {"best": float(values.max()), "mean": float(values.mean())}


def _within_limit(made: Plan, final: SearchState, found: Architecture) -> Architecture:
    """What was found by every seed, replaced by the most probable architecture within the limit where it exceeds it."""
    price, method = made.price, made.stages[-1].method
    assert price is not None
    kept = []
    for number in range(len(made.seeds)):
        state, own = one_of((final, found), number)
        if float(price.cost(encode(made.space, own))) > price.limit:
            own = derive_within(made.space, price.cost, price.limit, method.scores(sound(state)), unit=price.unit)
        kept.append(own)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def _search(session: Session[Plan]) -> Outcome:
    """Runs the stages of the search one after another; the outcome is the last one's, with the history of all."""
    made = session.made
    outcomes: list[Outcome] = []
    for stage in made.stages:
        before = outcomes[-1].run.learner if outcomes else ()
        outcomes.append(session.train(stage.task, stage.shapes, made.search_data(), made.seeds, before))
    last = outcomes[-1].run
    names = dict.fromkeys(name for one in outcomes for name in one.run.history)
    history = {name: _of_all_stages(name, [one.run.history for one in outcomes]) for name in names}
    seconds = {name: sum(one.seconds[name] for one in outcomes) for name in outcomes[-1].seconds}
    return Outcome(last._replace(history=history), seconds, max(one.memory for one in outcomes))


def _of_all_stages(name: str, histories: Sequence[Mapping[str, Array]]) -> np.ndarray:
    """A quantity over the epochs of all stages, NaN in those that do not have it."""
    shape = next(history[name].shape[2:] for history in histories if name in history)

    def of_stage(history: Mapping[str, Array]) -> np.ndarray:
        epochs = next(iter(history.values())).shape[:2]
        return np.asarray(history[name]) if name in history else np.full((*epochs, *shape), np.nan, np.float32)

    return np.concatenate([of_stage(history) for history in histories], axis=1)


def _announce(session: Session[Plan], found: Mapping[int, Architecture], variants: Mapping[str, Architecture]) -> None:
    """Tells and writes what the search found, before hours may be spent on training it.

    variants: {name: architectures with a leading axis of seeds}, written beside what was found.
    """
    describe = session.made.family.describe
    genotypes: dict[Any, Any] = {seed: describe(one) for seed, one in found.items()}
    for seed, text in genotypes.items():
        print(f"found by seed {seed}: {text}", file=sys.stderr)
    for name, architectures in variants.items():
        of_seeds = [one_of(architectures, i) for i in range(len(found))]
        genotypes[name] = {seed: describe(one) for seed, one in zip(found, of_seeds, strict=True)}
    write_json(session.folder / "genotypes.json", genotypes)


def _inherited_accuracy(
    made: Plan, child: Callable[..., Array], state: SearchState, architecture: Architecture
) -> float:
    """Accuracy on the test split with the weights of the supernet, normalised by the statistics of the batches."""
    test = TrainingData(*jax.device_put((made.dataset.x_test, made.dataset.y_test)))

    def answer(of: tuple[SearchState, Architecture], images: Array) -> Array:
        if made.devices.axis_name is None:
            return child(*of, images)
        # One device judges alone: an axis of one stands for those that share their batch statistics.
        alone = jax.vmap(lambda images: child(*of, images), axis_name=made.devices.axis_name)
        return alone(images[None])[0]

    accuracy = accuracy_on(
        answer,
        (state, architecture),
        test,
        batch_size=made.config["batch_size"],
        augmentation=made.augmentation,
    )
    return float(accuracy)


def train_architecture(session: Session[Plan], architecture: Architecture, seed: int, kind: str) -> Trained:
    """Trains one architecture on the whole training split, and looks at the test split once, at the end.

    kind: with the seed, the name of its task, and so of its checkpoints. With no epochs to train for, only its cost is
    told.
    """
    made = session.made
    image_shape = made.dataset.x_test.shape[1:]
    entry: dict[str, Any] = {
        "genotype": made.family.describe(architecture),
        "architecture": made.space.canonical(architecture),
        "cost": network_cost(made.family.network(architecture, None), image_shape)._asdict(),
        "retrained_accuracy": None,
    }
    if made.truth is not None:
        table, metric, scale = made.truth
        true = float(true_values(table, {p: np.asarray(a) for p, a in architecture.items()}, metric, scale))
        entry["true_accuracy"] = true if np.isfinite(true) else None  # the table may not list it
    if made.config["cost"]["name"] == "bit_operations":
        images = Images(*image_shape, classes=len(made.dataset.class_names))
        entry["cost"] |= {"bit_operations": exact_figure(made.family, images, architecture, bit_operations)}
    if made.price is not None and made.price.unit == "ms":
        entry["cost"] = entry["cost"] | {"latency_ms": float(made.price.cost(encode(made.space, architecture)))}
    if made.recipe.epochs == 0:
        return Trained(entry, {}, {"compile": 0.0, "run": 0.0})
    _, task = made.training(architecture, f"{kind}_seed_{seed}")
    data = TrainingData(*jax.device_put((made.dataset.x_train, made.dataset.y_train)))
    outcome = session.train(task, rehearse(task, data), data, (seed,))
    variables = one_of(outcome.run.learner.variables, 0)
    test = TrainingData(*jax.device_put((made.dataset.x_test, made.dataset.y_test)))
    accuracy = evaluate(
        made.family.network(architecture, None),  # one device judges
        variables,
        test,
        batch_size=made.recipe.batch_size,
        augmentation=made.augmentation,
    )
    history = {name: np.asarray(values[0]) for name, values in outcome.run.history.items()}
    return Trained(entry | {"retrained_accuracy": float(accuracy)}, history, outcome.seconds)


def _stacked(histories: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    return {name: np.stack([history[name] for history in histories]) for name in histories[0]}


def _result(made: Plan, searched: Outcome, trained: Mapping[str, Sequence[Trained]]) -> dict[str, Any]:
    """What result.json says. The search's own validation accuracy selects among seeds; the test split does not."""
    accuracies = np.asarray(searched.run.learner.watch.accuracy).tolist()
    subnets = subnet_accuracies(searched.run.history)
    per_seed = []
    for number, seed in enumerate(made.seeds):
        entry = {"seed": seed, "search_accuracy": accuracies[number], **trained["found"][number].entry}
        entry |= _of_predictor(searched.run.history, number)
        if subnets:
            entry["subnets"] = {name: values[number].tolist() for name, values in subnets.items()}
        if trained["random"]:
            entry["random"] = trained["random"][number].entry
        per_seed.append(entry)
    selected = max(range(len(per_seed)), key=lambda number: accuracies[number])
    best = {name: value for name, value in per_seed[selected].items() if name not in ("seed", "random")}
    retraining = [one.seconds for entries in trained.values() for one in entries]
    return {
        "method": made.config["method"]["name"],
        "space": made.space.name,
        "data": made.dataset.name,
        "seeds": list(made.seeds),
        "selected_seed": made.seeds[selected],
        **best,
        "random_baseline": per_seed[selected].get("random"),
        "per_seed": per_seed,
        "summary": {
            "search_accuracy": _summary(accuracies),
            "retrained_accuracy": _summary([one.entry["retrained_accuracy"] for one in trained["found"]]),
            "random_accuracy": _summary([one.entry["retrained_accuracy"] for one in trained["random"]]),
        },
        "versions": versions(),
        "device": f"{made.devices.number} × {jax.devices()[0].device_kind}",
        "seconds": {
            "compile": searched.seconds["compile"] + sum(one["compile"] for one in retraining),
            "search": searched.seconds["run"],
            "retrain": sum(one["run"] for one in retraining),
        },
        "memory_bytes": searched.memory,  # of the search's program, on each device
    }


def _of_predictor(history: Mapping[str, Array], number: int) -> dict[str, Any]:
    """{"predictor": how it agrees with measurements, at the end}, of a seed of a search that has one."""
    names = [name for name in history if name.startswith(("predictor_", "finalists_"))]
    told = {name.removeprefix("predictor_"): float(history[name][number, -1]) for name in names}
    return {"predictor": told} if told else {}


def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    libraries = {name: metadata.version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint")}
    return {"python": platform.python_version(), "jaxnas": __version__} | libraries


def _summary(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation; None where there are too few values."""
    values = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }
