"""The config of a specialization made into its parts, all of them checked before anything is written."""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Network, Space
from jaxnas.costs.constraints import attainable
from jaxnas.costs.latency import LatencyTable, read_latency_table
from jaxnas.costs.terms import ExpectedCost
from jaxnas.examination import ended
from jaxnas.limits import Config, check_specialization_fields
from jaxnas.methods import Evolution
from jaxnas.methods.predicted import Predicted
from jaxnas.networks.family import Images
from jaxnas.plan import Plan, plan
from jaxnas.pricing import check_reach, named_cost
from jaxnas.search.monitor import sound
from jaxnas.search.objectives import SearchState
from jaxnas.search.predictor import check_same_space
from jaxnas.strategies.pareto import nsga2
from jaxnas.strategies.strategy import Problem, Strategy
from jaxnas.train.parallel import one_of
from jaxnas.train.workdir import read_json

LATENCY = "latency"
METHODS = "'predicted', 'once_for_all', 'joint' or 'sandwich'"  # that end with a predictor


class Found(NamedTuple):
    """A finished search: its plan, for one device, the state that its selected seed ended with, and what it knows."""

    made: Plan
    state: SearchState
    known: Predicted


class Request(NamedTuple):
    """What is asked for: the most accurate architecture that costs at most `limit`.

    cost: gates -> cost in `unit`. name: of the cost. table: the latencies that it sums, None for another cost.
    """

    label: str
    name: str
    cost: ExpectedCost
    unit: str
    limit: float
    table: LatencyTable | None

    def problem(self, space: Space, *, limited: bool = True) -> Problem:
        """What a strategy searches."""
        return Problem(space, self.cost, self.limit if limited else 0.0)


class SpecializationPlan(NamedTuple):
    """Everything that a specialization needs.

    config: all fields, and fingerprints of the searches and tables. found: the search that it specialises. predictor:
    what knows the accuracies. network: the supernet. images: what networks read. calibration: training images, uint8
    [count, h, w, c], a multiple of batch_size. fronts: of the requests that differ in their cost, the first of each.
    """

    config: Mapping[str, Any]
    found: Found
    predictor: Predicted
    network: Network
    images: Images
    calibration: Array
    batch_size: int
    requests: Mapping[str, Request]
    fronts: Mapping[str, Request]
    evolution: Evolution
    finalists: int

    @property
    def space(self) -> Space:
        """What is searched."""
        return self.found.made.space

    def strategy(self, request: Request) -> Strategy:
        """The evolution within a request's limit."""
        return self.evolution.strategy(request.problem(self.space))

    def front_strategy(self, request: Request) -> Strategy:
        """NSGA-II on predicted error and a request's cost, whatever its limit."""
        settings = {name: value for name, value in self.config["front"].items() if name not in ("points", "rounds")}
        return nsga2(request.problem(self.space, limited=False), **settings)


def specialization_plan(config: Config) -> SpecializationPlan:
    """Builds all parts; raises UserError, one sentence, for what is wrong with the config, the search or a table."""
    check_specialization_fields(config)
    values = json.loads(config.to_json())
    _check_requests(config)
    found = finished_search(config.search, config.data.path)
    made = found.made
    values["search_sha256"] = _fingerprint(found)
    known = found.known
    if config.predictor:
        other = finished_search(config.predictor, config.data.path)
        check_same_space(other.made.space, made.space)
        known, values["predictor_sha256"] = other.known, _fingerprint(other)
    network = made.family.supernet(paths=1)
    if network.extract is None:
        raise UserError(
            f"stand-alone networks cannot be cut out of supernets of the space {made.space.name!r}; take a search of "
            "the space 'elastic'."
        )
    images = Images(*made.dataset.x_train.shape[1:], classes=len(made.dataset.class_names))
    requests = _requests(config, found, images)
    values["tables"] = {
        label: _digest(Path(of.table).expanduser()) for label, of in config.requests.items() if of.table
    }
    of_cost = {(one.name, config.requests[label].table): one for label, one in reversed(requests.items())}
    batch_size = min(made.config["batch_size"], config.calibration)
    calibration = _calibration(config, made)[: config.calibration // batch_size * batch_size]
    planned = SpecializationPlan(
        config=values,
        found=found,
        predictor=known,
        network=network,
        images=images,
        calibration=jax.device_put(made.dataset.x_train[calibration]),
        batch_size=batch_size,
        requests=requests,
        fronts={one.label: one for one in reversed(of_cost.values())} if config.front.points else {},
        evolution=Evolution(**{name: config.evolution[name] for name in Evolution._fields}),
        finalists=config.evolution.finalists,
    )
    _check_strategies(planned)
    return planned


def finished_search(workdir: str, data_path: str = "") -> Found:
    """What the finished search in a directory ended with, read from its checkpoints.

    data_path: where its data lie, "" for where it found them. Raises UserError where the search is not finished, has no
    predictor, or was run on other data.
    """
    folder = Path(workdir).expanduser()
    if not workdir or not (folder / "result.json").exists():
        raise UserError(f"there is no finished search in {str(folder)!r}; give the --workdir of one as search.")
    known, result = read_json(folder / "config.json"), read_json(folder / "result.json")
    if "method" not in known or "selected_seed" not in result:
        raise UserError(f"{str(folder)!r} holds a run of another kind; give the --workdir of a search as search.")
    run: Config = ConfigDict({name: _without_digest(value) for name, value in known.items()})
    run.devices = 1  # one device specialises, whichever number searched
    if data_path:
        run.data.path = data_path
    made = plan(run)
    if made.config["data"]["sha256"] != known["data"]["sha256"]:
        raise UserError(
            f"the data {made.dataset.name!r} are not those that the search in {str(folder)!r} was run on; give these "
            "with data.path."
        )
    last = made.stages[-1]
    if not isinstance(getattr(last.shapes.learner.memory, "strategy", None), Predicted):
        raise UserError(
            f"the search in {str(folder)!r} is of the method {known['method']['name']!r}, which trains no predictor; "
            f"take one of the method {METHODS}."
        )
    number = made.seeds.index(result["selected_seed"])
    state = sound(one_of(ended(made, last, folder).learner, number))
    return Found(made, state, state.memory.strategy)


def _without_digest(value: Any) -> Any:
    """A group of fields as it was given: plans add fingerprints."""
    return {name: of for name, of in value.items() if name != "sha256"} if isinstance(value, Mapping) else value


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fingerprint(found: Found) -> str:
    """SHA-256 of what answers depend on: the space, the data, the weights, and what the search knows."""
    config = found.made.config
    digest = hashlib.sha256(json.dumps([config["space"], config["supernet"], config["data"]["sha256"]]).encode())
    for leaf in jax.tree.leaves((found.state.params, found.known)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _calibration(config: Config, made: Plan) -> np.ndarray:
    """The rows of the training images from which statistics are taken."""
    rows = np.asarray(made.halves[0])[: config.calibration]
    if len(rows) < config.calibration:
        raise UserError(
            f"calibration is {config.calibration}, but the weights learned from {len(rows)} images; take fewer."
        )
    return rows


def _check_requests(config: Config) -> None:
    """Raises UserError for labels that name no folder, and for tables that are missing or have no effect."""
    for label, request in config.requests.items():
        if not re.fullmatch(r"[A-Za-z0-9]\w*", label):
            raise UserError(
                f"the label {label!r} names a folder, so it has to be made of letters, digits and underscores."
            )
        name = f"requests.{label}"
        if request.cost == LATENCY and not request.table:
            needs = f"{name}.table, a file as launch/latency.py writes it"
            raise UserError(f"{name}.cost is 'latency', which needs {needs}.")
        if request.cost != LATENCY and request.table:
            raise UserError(f"{name}.table is {request.table!r}, which has no effect with the cost {request.cost!r}.")


def _requests(config: Config, found: Found, images: Images) -> dict[str, Request]:
    """All requests with their costs; raises UserError for costs and tables that do not fit, and limits out of reach."""
    family = found.made.family

    @functools.cache
    def priced(name: str, table: str) -> tuple[ExpectedCost | None, str, tuple[float, float]]:
        cost, unit = named_cost(name, table, family, images)
        return cost, unit, (0.0, 0.0) if cost is None else attainable(family.space, cost)

    made = {}
    for label, given in config.requests.items():
        field = f"requests.{label}"
        try:
            cost, unit, (low, high) = priced(given.cost, given.table)
        except UserError as error:
            raise UserError(f"{field}: {error}") from error
        if cost is None:
            raise UserError(f"{field}.cost is 'none', but a request needs a cost, such as 'latency' or 'mult_adds'.")
        check_reach(f"{field}.limit", given.limit, low, high, unit)
        if given.limit > high:
            raise UserError(
                f"{field}.limit is {given.limit:,g} {unit}, which every architecture meets: those of this space have "
                f"{low:,.6g} to {high:,.6g}; take at most {high:,.6g}."
            )
        table = read_latency_table(given.table) if given.table else None
        made[label] = Request(label, given.cost, cost, unit, float(given.limit), table)
    return made


def _check_strategies(planned: SpecializationPlan) -> None:
    """Raises UserError for settings of the evolution and of the fronts that do not fit one another."""
    rows = (("evolution", planned.strategy, planned.requests), ("front", planned.front_strategy, planned.fronts))
    for group, make, requests in rows:
        try:
            for request in requests.values():
                make(request)
        except UserError as error:
            raise UserError(f"{group}: {error}") from error
    if planned.finalists > planned.evolution.parents:
        raise UserError(
            f"evolution.finalists is {planned.finalists}, but evolution keeps the {planned.evolution.parents} best "
            "(evolution.parents); take at most as many."
        )
