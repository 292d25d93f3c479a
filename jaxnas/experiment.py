"""One run from config to report: search, derive, train what was found beside a random architecture, and write it down.

This is where the parts meet and where the config ends; everything below takes explicit arguments. All that can be wrong
with a config is found by `plan`, before anything is written.
"""

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import named
from jaxnas.core.types import Space
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, check_settings, statistics
from jaxnas.data.sources import Dataset, load
from jaxnas.evaluate.retrain import Recipe
from jaxnas.methods import METHODS, Method, Setup
from jaxnas.networks.cell_supernet import cell_supernet
from jaxnas.spaces.cell import SPACES
from jaxnas.train.loop import Cadence
from jaxnas.train.parallel import Devices, check_devices
from jaxnas.train.search_task import SearchData, search_task
from jaxnas.train.task import Task, init_run


class Plan(NamedTuple):
    """A config made into parts: everything that a run needs, checked."""

    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    space: Space
    dataset: Dataset
    augmentation: Augmentation
    devices: Devices
    method: Method
    task: Task
    halves: tuple[jax.Array, jax.Array]
    recipe: Recipe
    cadence: Cadence


def plan(config: ConfigDict) -> Plan:
    """Builds all parts of a run; raises UserError, one sentence, for whatever is wrong with the config or the data."""
    for field in ("epochs", "batch_size", "num_seeds"):
        if config[field] < 1:
            raise UserError(f"{field} must be at least 1, not {config[field]}.")
    build_method = choose("method", config.method.name, METHODS)
    space = choose("space", config.space.name, SPACES)(nodes=config.space.nodes, operations=tuple(config.space.operations))
    for field, least in (("channels", 2), ("layers", 1)):
        if config.space[field] < least:
            raise UserError(f"space.{field} must be at least {least}, not {config.space[field]}.")
    dataset = load(config.data.name, config.data.path or None)
    augmentation = _augmentation(config, dataset, config.data.cutout)
    devices = check_devices(config.devices, {"batch_size": config.batch_size, "retrain.batch_size": config.retrain.batch_size})
    # The split depends on the data alone, so that seeds and methods are compared on the same halves.
    halves = batches.split_rows(jax.random.key(0), len(dataset.y_train), config.data.train_fraction)
    counts = (len(halves[0]), len(halves[1]))
    steps_per_epoch = batches.steps_per_epoch(counts[0], config.batch_size)
    batches.steps_per_epoch(counts[1], config.batch_size)
    network = functools.partial(
        cell_supernet,
        channels=config.space.channels,
        layers=config.space.layers,
        classes=len(dataset.class_names),
        nodes=config.space.nodes,
        operations=tuple(config.space.operations),
        image_channels=dataset.x_train.shape[-1],
        axis_name=devices.axis_name if config.synchronize_statistics else None,
    )
    settings = {name: value for name, value in config.method.items() if name != "name"}
    method = build_method(Setup(space, network, steps_per_epoch, config.epochs, devices.mean), **settings)
    task = search_task(
        method,
        epochs=config.epochs,
        batch_size=config.batch_size,
        counts=counts,
        augmentation=augmentation,
        devices=devices,
    )
    recipe = Recipe(
        **{name: config.retrain[name] for name in Recipe._fields},
    )
    return Plan(
        config=json.loads(config.to_json()),
        seeds=tuple(range(config.seed, config.seed + config.num_seeds)),
        space=space,
        dataset=dataset,
        augmentation=augmentation,
        devices=devices,
        method=method,
        task=task,
        halves=halves,
        recipe=recipe,
        cadence=Cadence(config.checkpoint.every_steps, config.checkpoint.every_seconds),
    )


def _augmentation(config: ConfigDict, dataset: Dataset, cutout: int) -> Augmentation:
    mean, std = statistics(dataset.x_train)
    augmentation = Augmentation(config.data.crop_padding, config.data.flip, cutout, mean, std)
    check_settings(augmentation, dataset.x_train.shape[-1])
    return augmentation
