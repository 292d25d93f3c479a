"""A config made into the parts of a run, all of them checked before anything is written.

This and `experiment` are where the config ends; everything else takes explicit arguments.
"""

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array, PyTree, Space
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, check_settings, statistics
from jaxnas.data.sources import Dataset, load
from jaxnas.evaluate.retrain import Recipe, training_task
from jaxnas.limits import Config, check_fields
from jaxnas.methods import METHODS, Method, Setup
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.cell_supernet import cell_supernet
from jaxnas.spaces.cell import cell_space, genotype
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import random
from jaxnas.train.loop import Cadence
from jaxnas.train.parallel import Devices, check_devices, check_platform
from jaxnas.train.search_task import SearchData, search_task
from jaxnas.train.task import Task, rehearse

SPACES = {"darts": cell_space}


class Plan(NamedTuple):
    """Everything that a run needs.

    config: all fields, and the data's fingerprint as data.sha256. halves: the training split's rows for the weights
    and for the architecture. shapes: a RunState of shapes, as `rehearse` gives for `task`.
    """

    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    space: Space
    dataset: Dataset
    halves: tuple[Array, Array]
    devices: Devices
    method: Method
    task: Task
    shapes: PyTree
    network: functools.partial[CellNetwork]
    recipe: Recipe
    augmentation: Augmentation
    cadence: Cadence

    def search_data(self) -> SearchData:
        """The training split on the device."""
        return SearchData(jnp.asarray(self.dataset.x_train), jnp.asarray(self.dataset.y_train), *self.halves)

    def training(self, genotype: Genotype, name: str) -> tuple[CellNetwork, Task]:
        """The stand-alone network of a genotype and the task of training it on the whole training split."""
        network = self.network(genotype)
        task = training_task(
            network,
            self.recipe,
            name=name,
            count=len(self.dataset.y_train),
            image_shape=self.dataset.x_train.shape[1:],
            augmentation=self.augmentation,
            devices=self.devices,
        )
        return network, task


def plan(config: Config) -> Plan:
    """Builds all parts of a run; raises UserError, one sentence, for whatever is wrong with the config or the data."""
    check_fields(config)
    check_platform()
    values = json.loads(config.to_json())
    build_method = choose("method", config.method.name, METHODS)
    settings = _method_settings(config, build_method)
    operations = tuple(config.space.operations)
    space = choose("space", config.space.name, SPACES)(nodes=config.space.nodes, operations=operations)
    dataset = load(config.data.name, config.data.path or None)
    values["data"]["sha256"] = _fingerprint(dataset)
    classes, image_channels = len(dataset.class_names), dataset.x_train.shape[-1]
    sizes = {"batch_size": config.batch_size, "retrain.batch_size": config.retrain.batch_size}
    devices = check_devices(config.devices, sizes)
    axis_name = devices.axis_name if config.synchronize_statistics else None
    # The split depends on the data alone, so that seeds and methods are compared on the same halves.
    halves = batches.split_rows(jax.random.key(0), len(dataset.y_train), config.data.train_fraction)
    counts = (len(halves[0]), len(halves[1]))
    steps_per_epoch, _ = (batches.steps_per_epoch(count, config.batch_size) for count in counts)
    supernet = functools.partial(
        cell_supernet,
        channels=config.space.channels,
        layers=config.space.layers,
        classes=classes,
        nodes=config.space.nodes,
        operations=operations,
        image_channels=image_channels,
        axis_name=axis_name,
    )
    method = build_method(Setup(space, supernet, steps_per_epoch, config.epochs, devices.mean), **settings)
    task = search_task(
        method,
        epochs=config.epochs,
        batch_size=config.batch_size,
        counts=counts,
        augmentation=_augmentation(config, dataset, config.data.cutout),
        devices=devices,
    )
    made = Plan(
        config=values,
        seeds=tuple(range(config.seed, config.seed + config.num_seeds)),
        space=space,
        dataset=dataset,
        halves=halves,
        devices=devices,
        method=method,
        task=task,
        shapes=None,
        network=functools.partial(
            CellNetwork,
            channels=config.retrain.channels,
            layers=config.retrain.layers,
            classes=classes,
            auxiliary=config.retrain.auxiliary,
            axis_name=axis_name,
        ),
        recipe=Recipe(**{name: config.retrain[name] for name in Recipe._fields}),
        augmentation=_augmentation(config, dataset, config.retrain.cutout),
        cadence=Cadence(config.checkpoint.every_steps, config.checkpoint.every_seconds),
    )
    return made._replace(shapes=_rehearse(made))


def _method_settings(config: Config, build_method: Callable[..., Method]) -> dict[str, Any]:
    """The fields of `config.method` that the method takes; raises UserError where they are those of another method."""
    settings = {name: value for name, value in config.method.items() if name != "name"}
    parameters = inspect.signature(build_method).parameters.values()
    taken = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    problems = {
        "has no": [name for name in settings if name not in taken],
        "needs": [name for name in taken if name not in settings],
    }
    if any(problems.values()):
        what = " and ".join(f"{verb} {', '.join(names)}" for verb, names in problems.items() if names)
        raise UserError(
            f"the method {config.method.name!r} {what}; start from a config of that method, "
            f"such as configs/search/{config.method.name}_digits.py."
        )
    return settings


def _fingerprint(dataset: Dataset) -> str:
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


def _rehearse(made: Plan) -> PyTree:
    """Traces a step of the search and the network of one architecture, for errors of shape; compiles nothing."""
    some = genotype(made.space, random(made.space, jax.random.key(0)))
    network = made.training(some, "training")[0] if made.recipe.epochs else made.network(some)
    images = jnp.zeros((1, *made.dataset.x_train.shape[1:]))
    jax.eval_shape(lambda key: network.init(key, images, train=False), jax.random.key(0))
    arrays = (made.dataset.x_train, made.dataset.y_train, *made.halves)
    shapes: Any = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    return rehearse(made.task, SearchData(*shapes))
