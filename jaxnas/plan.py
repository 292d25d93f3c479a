"""A config made into the parts of a run, all of them checked before anything is written.

This and `experiment` are where the config ends; everything else takes explicit arguments.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array, Space
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, check_settings, statistics
from jaxnas.data.sources import Dataset, load
from jaxnas.evaluate.retrain import Recipe, training_task
from jaxnas.methods import METHODS, Method, Setup
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.cell_supernet import cell_supernet
from jaxnas.spaces.cell import cell_space, genotype
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import random
from jaxnas.train.loop import Cadence
from jaxnas.train.parallel import Devices, check_devices
from jaxnas.train.search_task import SearchData, search_task
from jaxnas.train.task import RunState, Task, rehearse

SPACES = {"darts": cell_space}
LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "num_seeds": 1,
    "seed": 0,
    "space.channels": 2,
    "space.layers": 1,
    "retrain.epochs": 1,
    "retrain.channels": 2,
    "retrain.layers": 1,
    "checkpoint.every_steps": 0,
    "checkpoint.keep": 1,
}


class Plan(NamedTuple):
    """Everything that a run needs. `halves` are the training split's rows for the weights and for the architecture."""

    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    space: Space
    dataset: Dataset
    halves: tuple[Array, Array]
    devices: Devices
    method: Method
    task: Task
    shapes: RunState | None
    network: functools.partial[CellNetwork]
    recipe: Recipe
    augmentation: Augmentation
    cadence: Cadence

    def search_data(self) -> SearchData:
        """The training split on the device."""
        return SearchData(
            jnp.asarray(self.dataset.x_train), jnp.asarray(self.dataset.y_train), *self.halves
        )

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


def plan(config: ConfigDict) -> Plan:
    """Builds all parts of a run; raises UserError, one sentence, for whatever is wrong with the config or the data."""
    values = json.loads(config.to_json())
    _check_numbers(config)
    build_method = choose("method", config.method.name, METHODS)
    operations = tuple(config.space.operations)
    space = choose("space", config.space.name, SPACES)(nodes=config.space.nodes, operations=operations)
    dataset = load(config.data.name, config.data.path or None)
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
    settings = {name: value for name, value in config.method.items() if name != "name"}
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


def _check_numbers(config: ConfigDict) -> None:
    """Raises UserError for a number below the least that makes sense."""
    for field, least in LEAST.items():
        value = functools.reduce(lambda node, name: node[name], field.split("."), config)
        if value < least:
            raise UserError(f"{field} must be at least {least}, not {value}.")


def _augmentation(config: ConfigDict, dataset: Dataset, cutout: int) -> Augmentation:
    mean, std = statistics(dataset.x_train)
    augmentation = Augmentation(config.data.crop_padding, config.data.flip, cutout, mean, std)
    check_settings(augmentation, dataset.x_train.shape[-1])
    return augmentation


def _rehearse(made: Plan) -> RunState:
    """Traces a step of the search, and of training one architecture, for errors of shape; runs and compiles nothing."""
    network, _ = made.training(genotype(made.space, random(made.space, jax.random.key(0))), "training")
    images = jnp.zeros((1, *made.dataset.x_train.shape[1:]))
    jax.eval_shape(lambda key: network.init(key, images, train=False), jax.random.key(0))
    return rehearse(made.task, made.search_data())
