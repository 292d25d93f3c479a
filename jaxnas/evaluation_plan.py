"""The config of an evaluation made into its parts, all of them checked before anything is written."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import PyTree
from jaxnas.evaluate.description import without_auxiliary
from jaxnas.evaluate.distillation import Distillation, check_taps
from jaxnas.evaluate.export import exported_variables
from jaxnas.evaluate.recipe import Recipe, check_recipe, lighter_decay
from jaxnas.evaluate.retrain import training_task
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.evaluation_data import EvaluationData, evaluation_data
from jaxnas.evaluation_network import as_trained, build_network, genotypes, images_of
from jaxnas.limits import Config, check_evaluation_fields
from jaxnas.networks.catalogue import NETWORKS
from jaxnas.networks.census import census
from jaxnas.networks.family import Images
from jaxnas.plan import hashable
from jaxnas.spaces.space import random
from jaxnas.train.loop import Cadence
from jaxnas.train.parallel import Devices, check_devices, check_platform
from jaxnas.train.task import Task, rehearse
from jaxnas.train.workdir import read_json

EXPORT = "export"  # the folder of the trained network
FOUND, RANDOM = "found", "random"


class EvaluationPlan(NamedTuple):
    """Everything that an evaluation needs.

    config: all fields, and fingerprints of the data and of a teacher as data.sha256 and teacher.sha256.
    candidates: {"found": architectures as people write them, "random": as many random ones}, of which the first is
    trained or the best of short trainings. teacher: what is learned from one, and its variables; None without.
    """

    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    images: Images
    data: EvaluationData
    devices: Devices
    recipe: Recipe
    cadence: Cadence
    candidates: Mapping[str, tuple[str, ...]]
    teacher: tuple[Distillation, PyTree] | None

    def training(self, text: str, name: str, *, select: bool = False) -> tuple[nn.Module, Task, TrainingData]:
        """A network, the task of training it and its data, with `select` those of the short training that chooses."""
        distillation, variables = self.teacher or (None, ())
        tapped = distillation is not None and bool(distillation.taps)
        network = build_network(self.config, self.images, text)
        network = as_trained(network, recompute=self.recipe.recompute, tapped=tapped)
        selection = self.config["selection"]
        recipe = self.recipe._replace(epochs=selection["epochs"]) if select else self.recipe
        fraction = selection["validation_fraction"] if select else self.config["data"]["validation_fraction"]
        count, data = self.data.training(variables, fraction)
        task = training_task(
            network,
            recipe,
            name=name,
            count=count,
            image_shape=self.images.shape,
            augmentation=self.data.augmentation,
            devices=self.devices,
            lighter=lighter_decay(network, self.images.shape) if self.config["substitute"]["scale_decay"] else None,
            distillation=distillation,
            validated=bool(fraction) and not self.data.streamed,
            feed=functools.partial(self.data.feed, variables) if self.data.streamed else None,
            group="recipe",
        )
        return network, task, data


def evaluation_plan(config: Config) -> EvaluationPlan:
    """Builds all parts; raises UserError, a sentence, for what is wrong with the config, the data or a teacher."""
    check_evaluation_fields(config)
    check_platform()
    recipe = Recipe(**{name: hashable(config.recipe[name]) for name in Recipe._fields})
    check_recipe(recipe)
    values = json.loads(config.to_json())
    devices = check_devices(config.devices, {"recipe.batch_size": recipe.batch_size // recipe.accumulate})
    images = images_of(config, devices)
    data = evaluation_data(config, images)
    values["data"]["sha256"] = data.digest()
    made = EvaluationPlan(
        config=values,
        seeds=tuple(range(config.seed, config.seed + config.num_seeds)),
        images=images,
        data=data,
        devices=devices,
        recipe=recipe,
        cadence=Cadence(config.checkpoint.every_steps, config.checkpoint.every_seconds),
        candidates=_candidates(config, images),
        teacher=_teacher(config, images, data.digest()) if config.teacher.workdir else None,
    )
    values["architectures"] = dict(made.candidates)  # a result.json may change while a run is stopped
    if made.teacher:
        values["teacher"]["sha256"] = _digest(made.teacher[1])
    for texts in made.candidates.values():
        for text in texts:
            _rehearse(made, text)
    if len(made.candidates[FOUND]) > 1:  # what selection keeps to train on may be less than a batch
        check_recipe(recipe._replace(epochs=config.selection.epochs))
        made.training(made.candidates[FOUND][0], FOUND, select=True)
    return made


def _candidates(config: Config, images: Images) -> Mapping[str, tuple[str, ...]]:
    searchable = NETWORKS[config.network.name].searchable
    if searchable is None:
        if config.selection.random_baseline or config.selection.epochs:
            raise UserError(
                f"the network {config.network.name!r} has no architectures to select or to draw at random; set "
                "selection.epochs to 0 and selection.random_baseline to False."
            )
        return {FOUND: ("",)}
    found = genotypes(config.genotype, config.network.name)
    if config.selection.epochs and len(found) == 1:
        raise UserError("selection.epochs chooses among several genotypes, but there is one only; set it to 0.")
    found = found if config.selection.epochs else found[:1]
    if not config.selection.random_baseline:
        return {FOUND: found}
    settings = {name: hashable(value) for name, value in config.network.items() if name != "name"}
    space, describe = searchable(images, **settings)
    keys = jax.random.split(named(jax.random.key(config.seed), "random_baseline"), len(found))
    return {FOUND: found, RANDOM: tuple(describe(random(space, key)) for key in keys)}


def _teacher(config: Config, images: Images, digest: str) -> tuple[Distillation, PyTree]:
    """The teacher that a finished evaluation trained, on its first seed; digest: of the data at hand."""
    folder = Path(config.teacher.workdir).expanduser()
    known, result = read_json(folder / "config.json"), read_json(folder / "result.json")
    if "network" not in known or FOUND not in result:
        raise UserError(f"teacher.workdir {str(folder)!r} is no finished evaluation; give the --workdir of one.")
    for name in ("size", "channels", "classes"):
        if known["images"][name] != config.images[name]:
            raise UserError(
                f"the teacher in {str(folder)!r} was trained with images.{name} {known['images'][name]}, but this "
                f"config says {config.images[name]}; both must be the same."
            )
    if config.teacher.soft == 0 and not (config.teacher.taps and config.teacher.attention):
        raise UserError("a teacher teaches nothing without teacher.soft, or teacher.taps with teacher.attention.")
    if known["data"]["sha256"] != digest:
        raise UserError(
            f"the teacher in {str(folder)!r} was trained on other data, whose normalisation is not that of these; "
            "train it on the same."
        )
    teacher = build_network(known, images._replace(axis_name=None), result[FOUND].get("genotype", ""))
    settings = {name: config.teacher[name] for name in ("attention", "soft", "temperature")}
    distillation = Distillation(teacher, hashable(config.teacher.taps), **settings)
    variables = exported_variables(folder / EXPORT)
    shapes = census(without_auxiliary(teacher), images.shape).variables
    given: dict[Any, Any] = dict(flatten_dict(variables))
    wanted: dict[Any, Any] = dict(flatten_dict(shapes))
    for path in wanted:
        if path not in given or given[path].shape != wanted[path].shape:
            name = "/".join(path)
            raise UserError(f"the weights in {str(folder)!r} are of another network: {name} does not fit.")
    return distillation, variables


def _digest(variables: PyTree) -> str:
    """SHA-256 of a teacher: a run is continued with the one it was started with, wherever it lies."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(variables, sep="/").items()):
        digest.update(name.encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _rehearse(made: EvaluationPlan, text: str) -> None:
    """Traces one step of the training of an architecture: errors of shape surface before anything is written."""
    network, task, data = made.training(text, FOUND)
    if made.teacher:
        check_taps(network, made.teacher[0], made.images.shape)
    rehearse(task, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data))
