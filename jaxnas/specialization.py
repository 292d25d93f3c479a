"""Networks for several devices from one finished search: asked of its predictor, cut out of its weights, not trained.

Once-for-All (Cai et al. 2020): after one training and some measurements, a request such as "at most 3 ms on this
machine" takes seconds.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.core.errors import Stopped
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key
from jaxnas.costs.counting import network_cost
from jaxnas.costs.timing import compile_program, device_name, summary, time_programs
from jaxnas.data.augment import normalize
from jaxnas.evaluate.accuracy import evaluate
from jaxnas.evaluate.calibration import calibrated
from jaxnas.evaluate.export import check_export_folder, export_network
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.examination import judge_of
from jaxnas.experiment import versions
from jaxnas.layers.backend import compiler_options
from jaxnas.limits import Config
from jaxnas.methods.predicted import evolve
from jaxnas.report.specialization import SpecializationRecord, write_specialization
from jaxnas.search.predictor import HeldOut, Predictor, agreement, predict
from jaxnas.spaces.space import encode
from jaxnas.specialization_plan import Request, SpecializationPlan, specialization_plan
from jaxnas.strategies.pareto import front
from jaxnas.strategies.seen import remembered
from jaxnas.strategies.strategy import Problem, Strategy
from jaxnas.train.signals import StopRequest
from jaxnas.train.workdir import Workdir, begin, prepare, read_json, write_json

FILES = ("config.json", "result.json", "report.html")
DONE, NETWORKS = "checkpoints", "networks"  # folders: of what was answered, and of the exported networks
FREE_FIELDS = ("search", "predictor", "data.path")  # no result depends on where these lie: fingerprints tell what


class Session(NamedTuple):
    """One run: its plan, its directory, the request to stop, and what judges with the shared weights.

    judge: architectures {part: [count, choices]} -> accuracies [count] on the validation half.
    """

    made: SpecializationPlan
    folder: Workdir
    stop: StopRequest
    judge: Callable[[Architecture], Array]

    def kept(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What was made before under this name, or is made now and kept; raises Stopped where that was asked for."""
        file = self.folder / DONE / f"{name}.json"
        if not file.exists():
            if self.stop.requested:
                raise Stopped(self.stop.requested, f"before {name}")
            print(f"{name}: working", file=sys.stderr)
            made = make()
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, made)
        return read_json(file)


def specialize(config: Config, workdir: str | Path) -> Mapping[str, Any]:
    """Answers the requests of `config` in `workdir`, or goes on there, and returns the result.

    Writes config.json, networks/LABEL/ (the network of a request as a portable program, see `evaluate.export`),
    result.json and report.html. Every answer is kept as soon as it is there, so that what was stopped or killed goes on
    with the next. A finished run is not run again.
    Raises UserError, before anything is written, for whatever is wrong with the config, the search, a table or the
    directory, and Stopped after the present answer when the process was asked to stop.
    """
    made = specialization_plan(config)
    with prepare(workdir, files=FILES, folders=(DONE, NETWORKS)) as folder:
        for label in made.requests:
            check_export_folder(folder / NETWORKS / label)
        free = (*FREE_FIELDS, *(f"requests.{label}.table" for label in made.requests))
        result = begin(folder, made.config, free)
        if result is not None:
            return result
        judge, state = judge_of(made.found.made), made.found.state
        with StopRequest("answer") as stop:
            return _run(Session(made, folder, stop, lambda architectures: judge(state, architectures)))


def _run(session: Session) -> Mapping[str, Any]:
    made = session.made
    answers = {
        label: session.kept(f"requests/{label}", lambda request=request: _answer(session, request))
        for label, request in made.requests.items()
    }
    fronts = {
        label: session.kept(f"fronts/{label}", lambda request=request: _front(session, request))
        for label, request in made.fronts.items()
    }
    for label, measured in session.kept("latencies", lambda: _latencies(made, answers))["milliseconds"].items():
        answers[label]["cost"]["measured"] = measured
    search = made.found.made
    result = {
        "method": search.config["method"]["name"],
        "space": search.space.name,
        "data": search.dataset.name,
        "predictor": _quality(made),
        "requests": answers,
        "fronts": fronts,
        "versions": versions(),
        "device": jax.devices()[0].device_kind,
    }
    write_specialization(session.folder / "report.html", SpecializationRecord(made.config, result))
    write_json(session.folder / "result.json", result)
    return read_json(session.folder / "result.json")


def _quality(made: SpecializationPlan) -> dict[str, Any]:
    """How the predictor agrees with what it was not trained on: held out, or all of this search if it is another's."""
    unseen = made.predictor.held_out
    if made.predictor is not made.found.known:
        seen = made.found.known.seen
        architectures, known = remembered(made.space, seen)
        unseen = HeldOut(predict(made.predictor.predictor, made.space, architectures), seen.accuracy, known)
    predicted, measured, counts = (np.asarray(values) for values in unseen)
    return {
        "measured": int(made.predictor.seen.stored),
        "held_out": {"predicted": predicted[counts].tolist(), "measured": measured[counts].tolist()},
        **{name: float(value) for name, value in jax.jit(agreement)(*unseen)._asdict().items()},
    }


def _answer(session: Session, request: Request) -> dict[str, Any]:
    """The network of a request, exported, and what is told of it.

    Its accuracies: predicted; of the supernet ("shared") and by itself ("valid") on the validation half; on the test
    split, which is looked at once.
    """
    made = session.made
    start = time.perf_counter()
    finalists, predicted = _finalists(made, request)
    seconds = time.perf_counter() - start
    shared = np.asarray(session.judge(finalists))
    winner = int(np.argmax(shared))
    architecture = _one(finalists, winner)
    variables, tested = _tested(made, architecture)
    accuracy = {"predicted": float(predicted[winner]), "shared": float(shared[winner]), **tested}
    family, shape = made.found.made.family, made.images.shape
    answer = {
        "architecture": made.space.canonical(architecture),
        "genotype": family.describe(architecture),
        "cost": {
            "name": request.name,
            "unit": request.unit,
            "limit": request.limit,
            "predicted": float(request.cost(encode(made.space, architecture))),
            "measured": None,
        },
        "size": network_cost(family.network(architecture, None), shape)._asdict(),
        "accuracy": accuracy,
    }
    _export(session, request, architecture, variables, answer)
    return answer | {"seconds": seconds}


def _one(architectures: Mapping[str, Any], number: int) -> Architecture:
    return {part: jax.device_put(np.asarray(rows)[number]) for part, rows in architectures.items()}


def _evolved(
    made: SpecializationPlan, problem: Problem, strategy: Strategy, rounds: int, key: Key
) -> tuple[Any, Callable[[Architecture], Array]]:
    """The state of a strategy after so many rounds of predictions, and what predicts."""

    def search(predictor: Predictor) -> Any:
        return evolve(problem, lambda several: predict(predictor, made.space, several), strategy, rounds, key)[0]

    predictor = made.predictor.predictor
    state = jax.jit(search, compiler_options=compiler_options())(predictor)
    return state, jax.jit(lambda several: predict(predictor, made.space, several))


def _finalists(made: SpecializationPlan, request: Request) -> tuple[Architecture, Array]:
    """The best architectures by prediction, {part: [finalists, choices]}, and their predicted accuracies."""
    key = named(jax.random.key(made.config["seed"]), "request")
    problem, rounds = request.problem(made.space), made.evolution.rounds
    state, predicts = _evolved(made, problem, made.strategy(request), rounds, key)
    best = {part: rows[: made.finalists] for part, rows in jax.device_get(state.architectures).items()}
    return best, predicts(best)


def _tested(made: SpecializationPlan, architecture: Architecture) -> tuple[Any, dict[str, float]]:
    """The variables of the stand-alone network, and its accuracies on the validation half and the test split."""
    search = made.found.made
    assert made.network.extract is not None
    network = search.family.network(architecture, None)
    extract = made.network.extract
    extracted = jax.jit(lambda params: extract(params, architecture))(made.found.state.params)
    dataset, rows = search.dataset, np.asarray(search.halves[1])
    images = jax.jit(normalize, static_argnums=0)(search.augmentation, made.calibration)
    variables = calibrated(network, extracted, images.reshape(-1, made.batch_size, *images.shape[1:]))
    splits = {
        "valid": TrainingData(*jax.device_put((dataset.x_train[rows], dataset.y_train[rows]))),
        "test": TrainingData(*jax.device_put((dataset.x_test, dataset.y_test))),
    }
    return variables, {
        name: float(evaluate(network, variables, data, batch_size=made.batch_size, augmentation=search.augmentation))
        for name, data in splits.items()
    }


def _export(
    session: Session, request: Request, architecture: Architecture, variables: Any, answer: Mapping[str, Any]
) -> None:
    search = session.made.found.made
    export_network(
        session.folder / NETWORKS / request.label,
        search.family.network(architecture, None),
        variables,
        image_shape=session.made.images.shape,
        mean=search.augmentation.mean,
        std=search.augmentation.std,
        class_names=search.dataset.class_names,
        description={"network": search.config["space"], "data": search.dataset.name, **answer},
    )


def _front(session: Session, request: Request) -> dict[str, Any]:
    """Architectures that nothing known is both cheaper and predicted to be better than, by rising cost, and theirs.

    Of those that NSGA-II ends with as many as the config asks for, evenly over their order.
    """
    made = session.made
    settings = made.config["front"]
    problem, key = request.problem(made.space, limited=False), named(jax.random.key(made.config["seed"]), "front")
    state, predicts = _evolved(made, problem, made.front_strategy(request), settings["rounds"], key)
    objectives = np.asarray(state.objectives)
    best = np.flatnonzero(np.asarray(jax.jit(front)(objectives)) & np.isfinite(objectives[:, 0]))
    ordered = best[np.argsort(objectives[best, 1], kind="stable")]
    count = min(settings["points"], len(ordered))
    spread = np.round(np.linspace(0, len(ordered) - 1, count)).astype(int)
    chosen = {part: rows[ordered[spread]] for part, rows in jax.device_get(state.architectures).items()}
    costs = jax.jit(jax.vmap(problem.price))(chosen)
    return {
        "device": _device(request),
        "unit": request.unit,
        "cost": np.asarray(costs).tolist(),
        "predicted": np.asarray(predicts(chosen)).tolist(),
        "shared": np.asarray(session.judge(chosen)).tolist(),
        "architectures": [made.space.canonical(_one(chosen, number)) for number in range(count)],
    }


def _device(request: Request) -> str:
    """What a request's cost is of: the device of its table, or the name of what is counted."""
    return request.name if request.table is None else request.table.about.get("device", request.label)


def _latencies(made: SpecializationPlan, answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Milliseconds of the networks whose table was measured on a device like the present one, timed side by side."""
    family, programs = made.found.made.family, {}
    for label, request in made.requests.items():
        if made.config["repeats"] and request.table is not None and _device(request) == device_name():
            network = family.network(made.space.parse(answers[label]["architecture"]), None)
            batch_size = int(request.table.about.get("batch_size", 1))
            programs[label] = compile_program(network, made.images.shape, batch_size)
    times = time_programs(programs, made.config["repeats"]) if programs else {}
    return {"milliseconds": {label: summary(found).milliseconds for label, found in times.items()}}
