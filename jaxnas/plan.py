"""A config made into the parts of a run, all of them checked before anything is written.

This, `pricing` and `experiment` are where the config ends; everything else takes explicit arguments.
"""

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Architecture, Array, Batch, PyTree, Space
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, check_settings, statistics
from jaxnas.data.sources import Dataset, load
from jaxnas.evaluate.recipe import Recipe, lighter_decay
from jaxnas.evaluate.retrain import training_task
from jaxnas.evaluate.tabular import Table, column, read_table
from jaxnas.limits import Config, check_fields
from jaxnas.methods import METHODS, Arch, Evolution, Method, Prediction, Setup, Stage, Weights
from jaxnas.networks.families import FAMILIES, settings_of
from jaxnas.networks.family import Family, Images
from jaxnas.pricing import Price, read_price
from jaxnas.search.monitor import Limits, curvature, part_of_skips
from jaxnas.search.objectives import SearchState, classification
from jaxnas.spaces.space import random
from jaxnas.train.loop import Cadence
from jaxnas.train.parallel import Devices, check_devices, check_platform
from jaxnas.train.search_task import SearchData, search_task
from jaxnas.train.task import Task, rehearse


class PlannedStage(NamedTuple):
    """A stage of the search: its method, its task, and a RunState of shapes, as `rehearse` gives for it.

    trains: whether the weights learn in it.
    """

    method: Method
    task: Task
    shapes: PyTree
    trains: bool = True


class Truth(NamedTuple):
    """True accuracies from a table: a metric of it, and the factor that makes fractions of its values."""

    table: Table
    metric: str
    scale: float


class Plan(NamedTuple):
    """Everything that a run needs.

    config: all fields, and the data's fingerprint as data.sha256. halves: the training split's rows for the weights
    and for the architecture. stages: the search, one task after another.
    """

    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    family: Family
    dataset: Dataset
    halves: tuple[Array, Array]
    devices: Devices
    stages: tuple[PlannedStage, ...]
    price: Price | None
    truth: Truth | None
    recipe: Recipe
    augmentation: Augmentation
    cadence: Cadence

    def search_data(self) -> SearchData:
        """The training split on the device."""
        return SearchData(*jax.device_put((self.dataset.x_train, self.dataset.y_train, *self.halves)))

    @property
    def space(self) -> Space:
        """What is searched."""
        return self.family.space

    def training(self, architecture: Architecture, name: str) -> tuple[nn.Module, Task]:
        """The stand-alone network of an architecture and the task of training it on the whole training split."""
        axis_name = self.devices.axis_name if self.config["synchronize_statistics"] else None
        network = self.family.network(architecture, axis_name)
        task = training_task(
            network,
            self.recipe,
            name=name,
            count=len(self.dataset.y_train),
            image_shape=self.dataset.x_train.shape[1:],
            augmentation=self.augmentation,
            devices=self.devices,
            lighter=lighter_decay(network, self.dataset.x_train.shape[1:]),
        )
        return network, task


def plan(config: Config) -> Plan:
    """Builds all parts of a run; raises UserError, one sentence, for whatever is wrong with the config or the data."""
    check_fields(config)
    check_platform()
    values = json.loads(config.to_json())
    build_method = choose("method", config.method.name, METHODS)
    build_family = choose("space", config.space.name, FAMILIES)
    _check_groups(config, build_method, build_family)
    dataset = load(config.data.name, config.data.path or None)
    values["data"]["sha256"] = fingerprint(dataset)
    sizes = {"batch_size": config.batch_size, "retrain.batch_size": config.retrain.batch_size}
    devices = check_devices(config.devices, sizes)
    images = Images(
        *dataset.x_train.shape[1:],
        classes=len(dataset.class_names),
        axis_name=devices.axis_name if config.synchronize_statistics else None,
    )
    family = _shared(config, build_family(images, **_family_settings(config, build_family)))
    # The split depends on the data alone, so that seeds and methods are compared on the same halves.
    halves = batches.split_rows(jax.random.key(0), len(dataset.y_train), config.data.train_fraction)
    steps_per_epoch, _ = (batches.steps_per_epoch(len(half), config.batch_size) for half in halves)
    price = read_price(config, family, images)
    setup = Setup(family.space, family.supernet, steps_per_epoch, config.epochs, devices.mean)
    if price is not None:
        setup = setup._replace(cost=price.cost, penalty=price.penalty, limit=price.limit)
    for group, path in (("cost", config.cost.table), ("table", config.table.path)):
        values[group]["sha256"] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    made = Plan(
        config=values,
        seeds=tuple(range(config.seed, config.seed + config.num_seeds)),
        family=family,
        dataset=dataset,
        halves=halves,
        devices=devices,
        stages=(),
        price=price,
        truth=read_truth(config, family.space),
        recipe=Recipe(**{name: config.retrain[name] for name in RECIPE}),
        augmentation=_augmentation(config, dataset, config.retrain.cutout),
        cadence=Cadence(config.checkpoint.every_steps, config.checkpoint.every_seconds),
    )
    stages = _method(config, build_method, setup)
    _check_agreement(config, family.space, stages)
    return made._replace(stages=_stages(made, config, stages))


def _shared(config: Config, family: Family) -> Family:
    """The family, whose supernet shares between architectures what the config says."""
    sharing = config.supernet.sharing
    if not sharing:
        return family
    if "sharing" not in inspect.signature(family.supernet).parameters:
        raise UserError(
            f"supernet.sharing is {sharing!r}, but supernets of the space {family.space.name!r} share weights in one "
            "way only; set it to ''."
        )
    return family._replace(supernet=functools.partial(family.supernet, sharing=sharing))


def _method(config: Config, build_method: Callable[..., Method | tuple[Stage, ...]], setup: Setup) -> tuple[Stage, ...]:
    """The stages of the method, one where it has no others."""
    settings = {name: hashable(value) for name, value in config.method.items() if name != "name"}
    groups = {
        name: group(**{field: settings.pop(field) for field in group._fields})
        for name, group in SETTINGS.items()
        if name in inspect.signature(build_method).parameters
    }
    method = build_method(setup, **groups, **settings)
    return (Stage("search", config.epochs, method),) if isinstance(method, Method) else method


def _check_agreement(config: Config, space: Space, stages: Sequence[Stage]) -> None:
    """Raises UserError where two settings each choose what is derived, so that one would be ignored."""
    method, limited = config.method, config.cost.limit > 0
    restricted = [
        *(["skips"] if "skips" in method and part_of_skips(space) == "normal" else []),
        *(["selection"] if method.get("selection", "argmax") != "argmax" else []),
    ]
    if limited and restricted:
        raise UserError(
            f"with cost.limit the most probable architecture within it is derived, so that method.{restricted[0]} "
            f"({method[restricted[0]]!r}) would be ignored; set cost.limit to 0."
        )
    if config.monitor.skips and any(stage.method.predict is None for stage in stages):
        raise UserError(
            f"monitor.skips stops a search whose architecture is learned step by step, but {method.name!r} decides by "
            "rewards when its weights have learned; set it to 0."
        )


def read_truth(config: Config, space: Space) -> Truth | None:
    """The table that `config.table` names, None for none; raises UserError for a wrong table or an unknown metric."""
    if not config.table.path:
        if config.table.metric:
            raise UserError(f"table.metric is {config.table.metric!r}, but table.path names no table.")
        return None
    truth = Truth(read_table(config.table.path, space), config.table.metric, config.table.scale)
    column(*truth)  # an unknown metric is found now
    return truth


def _stages(made: Plan, config: Config, stages: tuple[Stage, ...]) -> tuple[PlannedStage, ...]:
    """Every stage with its task, rehearsed in turn on the shapes that the one before it ends with."""
    network = made.family.network(random(made.space, jax.random.key(0)), None)
    if made.recipe.epochs:
        network = made.training(random(made.space, jax.random.key(0)), "training")[0]
    images = np.zeros((1, *made.dataset.x_train.shape[1:]), np.float32)
    jax.eval_shape(lambda key: network.init(key, images, train=False), jax.random.key(0))
    arrays = (made.dataset.x_train, made.dataset.y_train, *made.halves)
    data: Any = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    limits = Limits(config.monitor.skips, config.monitor.curvature_growth)
    if limits.skips and part_of_skips(made.space) is None:
        raise UserError(f"monitor.skips has nothing to count: the space {made.space.name!r} has no identities.")
    planned: list[PlannedStage] = []
    before: Any = ()
    for stage in stages:
        task = search_task(
            stage,
            made.space,
            batch_size=config.batch_size,
            counts=(len(made.halves[0]), len(made.halves[1])),
            augmentation=_augmentation(config, made.dataset, config.data.cutout),
            devices=made.devices,
            limits=limits._replace(warmup_epochs=stage.method.warmup_epochs),
            curvature=_curvature(made, stage.method) if config.monitor.curvature or limits.curvature else None,
        )
        shapes = rehearse(task, SearchData(*data), before)
        planned.append(PlannedStage(stage.method, task, shapes, stage.steps_per_epoch is None))
        before = shapes.learner
    return tuple(planned)


def _curvature(made: Plan, method: Method) -> Callable[[SearchState, Batch], Array]:
    """Measures the curvature of a method's own mixture; raises UserError for a method that has none."""
    if method.relaxed is None:
        raise UserError(
            f"the method {made.config['method']['name']!r} has no mixture whose loss could have a curvature; "
            "set monitor.curvature to False and monitor.curvature_growth to 0."
        )
    network, gates = method.relaxed()
    return curvature(classification(network), gates, made.devices.mean)


# How methods train weights and architecture: groups of fields of `config.method`, by the name of the argument.
SETTINGS: Mapping[str, Any] = {"weights": Weights, "logits": Arch, "evolution": Evolution, "prediction": Prediction}
RETRAIN = "retrain_"  # begins the arguments of families that are fields of `config.retrain`


def _taken(build_method: Callable[..., Any]) -> list[str]:
    """The names of the settings that a method takes."""
    parameters = inspect.signature(build_method).parameters.values()
    groups = [field for one in parameters if one.name in SETTINGS for field in SETTINGS[one.name]._fields]
    return groups + [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]


def _check_groups(config: Config, build_method: Callable[..., Any], build_family: Callable[..., Any]) -> None:
    """Raises UserError where method, space or retrain have fields of another method or space, or lack their own."""
    taken = settings_of(build_family)
    own = [name for name in taken if not name.startswith(RETRAIN)]
    retrain = [name.removeprefix(RETRAIN) for name in taken if name.startswith(RETRAIN)]
    groups = {
        "method": (config.method, config.method.name, _taken(build_method)),
        "space": (config.space, config.space.name, own),
        "retrain": (config.retrain, config.space.name, [*RECIPE, *RETRAIN_ALWAYS, *retrain]),
    }
    for group, (fields, name, wanted) in groups.items():
        given = [field for field in fields if field != "name"]
        problems = {
            "has no": [field for field in given if field not in wanted],
            "needs": [field for field in wanted if field not in given],
        }
        if any(problems.values()):
            what = " and ".join(f"{verb} {', '.join(names)}" for verb, names in problems.items() if names)
            kind = {"method": "method", "space": "space", "retrain": "training of networks of the space"}[group]
            start = f"start from {'a config of that method' if group == 'method' else 'settings of that space'}"
            raise UserError(f"the {kind} {name!r} {what}; {start}, such as {_example(group, name)}.")


# What a search says of the training of what it found; launch/evaluate.py trains by whole recipes.
RECIPE = tuple(name for name in Recipe._fields if name not in Recipe._field_defaults)
RETRAIN_ALWAYS = ("cutout", "random_baseline")


def _example(group: str, name: str) -> str:
    return f"configs/search/{name}_digits.py" if group == "method" else "those of configs/search/spaces.py"


def _family_settings(config: Config, build_family: Callable[..., Any]) -> dict[str, Any]:
    taken = settings_of(build_family)
    groups = {name: config.retrain[name.removeprefix(RETRAIN)] for name in taken if name.startswith(RETRAIN)}
    return groups | {name: hashable(config.space[name]) for name in taken if not name.startswith(RETRAIN)}


def hashable(value: Any) -> Any:
    """Tuples for lists, which a config read from elsewhere may have."""
    return tuple(hashable(item) for item in value) if isinstance(value, list | tuple) else value


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of all images and labels: a run is continued on the data it was started with, wherever they lie."""
    digest = hashlib.sha256()
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _augmentation(config: Config, dataset: Dataset, cutout: int) -> Augmentation:
    mean, std = statistics(dataset.x_train)
    augmentation = Augmentation(config.data.crop_padding, config.data.flip, cutout, mean, std)
    check_settings(augmentation, dataset.x_train.shape[-1])
    return augmentation
