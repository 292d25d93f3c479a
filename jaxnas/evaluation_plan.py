"""The config of an evaluation made into its parts, all of them checked before anything is written."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import PyTree
from jaxnas.costs.counting import network_cost
from jaxnas.data import batches
from jaxnas.data.augment import Augmentation, check_settings, statistics
from jaxnas.data.dataset import Dataset
from jaxnas.data.sources import load
from jaxnas.data.stream import ImageStream, open_stream, test_batches, train_batches
from jaxnas.evaluate.description import without_auxiliary
from jaxnas.evaluate.distillation import Distillation, check_taps
from jaxnas.evaluate.export import exported_variables
from jaxnas.evaluate.recipe import LighterDecay, Recipe, check_recipe
from jaxnas.evaluate.retrain import TrainingData, accuracy_on, accuracy_on_batches, answers, training_task
from jaxnas.limits import Config, check_evaluation_fields
from jaxnas.networks.catalogue import CELLS, NETWORKS
from jaxnas.networks.census import census
from jaxnas.networks.family import Images
from jaxnas.networks.substituted import SubstitutedNetwork, substituted
from jaxnas.plan import fingerprint, hashable
from jaxnas.spaces.genotype import format_genotype, parse_genotype
from jaxnas.spaces.space import random
from jaxnas.train.loop import Cadence
from jaxnas.train.parallel import Devices, check_devices, check_platform
from jaxnas.train.task import Task, rehearse
from jaxnas.train.workdir import read_json

EXPORT = "export"  # the folder of the trained network
# Mean and standard deviation of each channel of ImageNet, by which streamed images are normalised.
IMAGENET_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DENSE = "none"  # the kind of substitute that replaces nothing
FOUND, RANDOM = "found", "random"


class EvaluationPlan(NamedTuple):
    """Everything that an evaluation needs.

    config: all fields, and the data's fingerprint as data.sha256. candidates: {"found": architectures as people write
    them, "random": as many random ones}, of which the first is trained or the best of short trainings.
    teacher: what is learned from one, and its variables; None without.
    """

    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    images: Images
    dataset: Dataset | ImageStream
    devices: Devices
    recipe: Recipe
    augmentation: Augmentation
    cadence: Cadence
    candidates: Mapping[str, tuple[str, ...]]
    teacher: tuple[Distillation, PyTree] | None

    def network(self, text: str) -> nn.Module:
        """The network of an architecture, with its substitutes."""
        return build_network(self.config, self.images, text)

    def training(self, text: str, name: str, *, select: bool = False) -> tuple[nn.Module, Task, TrainingData]:
        """A network, the task of training it and its data, with `select` those of the short training that chooses."""
        network = self._trained_network(text)
        selection = self.config["selection"]
        recipe = self.recipe._replace(epochs=selection["epochs"]) if select else self.recipe
        fraction = selection["validation_fraction"] if select else self.config["data"]["validation_fraction"]
        streamed = isinstance(self.dataset, ImageStream)
        data = self._one_batch() if streamed else self.data(fraction)
        task = training_task(
            network,
            recipe,
            name=name,
            count=self.dataset.train_count if isinstance(self.dataset, ImageStream) else len(data.labels),
            image_shape=self.images.shape,
            augmentation=self.augmentation,
            devices=self.devices,
            lighter=lighter_decay(network, self.images.shape) if self.config["substitute"]["scale_decay"] else None,
            distillation=self.teacher[0] if self.teacher else None,
            validated=bool(fraction) and not streamed,
            feed=self._feed if streamed else None,
            group="recipe",
        )
        return network, task, data

    def data(self, fraction: float) -> TrainingData:
        """The training split on the device, a fraction of it, the same for all seeds, held out to validate on."""
        assert isinstance(self.dataset, Dataset)
        images, labels = jnp.asarray(self.dataset.x_train), jnp.asarray(self.dataset.y_train)
        teacher = self._teacher_variables
        if not fraction:
            return TrainingData(images, labels, teacher)
        held, kept = batches.split_rows(jax.random.key(self.config["seed"]), len(labels), fraction)
        return TrainingData(images[kept], labels[kept], teacher, (images[held], labels[held]))

    def _trained_network(self, text: str) -> nn.Module:
        """The network as it is trained: its variables are those of `network`, its program may be another."""
        network = self.network(text)
        whole = isinstance(network, SubstitutedNetwork) or (self.teacher is not None and self.teacher[0].taps)
        if not self.recipe.recompute:
            return network if whole or not hasattr(network, "looped") else network.clone(looped=True)
        if whole or not hasattr(network, "recomputed"):
            raise UserError(
                "recipe.recompute is for networks of cells and ResNets without substitutes and taps, whose blocks it "
                "hides; set it to False."
            )
        return network.clone(recomputed=True, **({"looped": True} if hasattr(network, "looped") else {}))

    def _feed(self, first_step: int) -> Iterator[TrainingData]:
        """Batches of a streamed set, from one step on; the same for all seeds of a program."""
        assert isinstance(self.dataset, ImageStream)
        seed, workers = self.config["seed"], self.config["data"]["workers"]
        size, teacher = self.recipe.batch_size, jax.device_put(self._teacher_variables)
        fed = train_batches(self.dataset, seed=seed, batch_size=size, first_step=first_step, workers=workers)
        for images, labels in fed:
            yield TrainingData(jnp.asarray(images), jnp.asarray(labels), teacher)

    def _one_batch(self) -> Any:
        """The shapes and types of what a step of a streamed set is fed."""
        shapes = ((jnp.uint8, self.images.shape), (jnp.int32, ()))
        images, labels = (jax.ShapeDtypeStruct((self.recipe.batch_size, *shape), dtype) for dtype, shape in shapes)
        return TrainingData(images, labels, self._teacher_variables)

    @property
    def _teacher_variables(self) -> PyTree:
        return self.teacher[1] if self.teacher else ()

    def accuracy(self, network: nn.Module, variables: PyTree, top: int) -> float:
        """Share of images of the test split whose label is among the `top` likeliest classes."""
        answer, size = answers(network), self.recipe.batch_size
        if isinstance(self.dataset, ImageStream):
            fed = test_batches(self.dataset, batch_size=size, workers=self.config["data"]["workers"])
            return accuracy_on_batches(answer, variables, fed, augmentation=self.augmentation, top=top)
        data = TrainingData(jnp.asarray(self.dataset.x_test), jnp.asarray(self.dataset.y_test))
        return float(accuracy_on(answer, variables, data, batch_size=size, augmentation=self.augmentation, top=top))


def evaluation_plan(config: Config) -> EvaluationPlan:
    """Builds all parts; raises UserError, a sentence, for what is wrong with the config, the data or a teacher."""
    check_evaluation_fields(config)
    check_platform()
    recipe = Recipe(**{name: hashable(config.recipe[name]) for name in Recipe._fields})
    check_recipe(recipe)
    values = json.loads(config.to_json())
    dataset = _opened(config)
    if isinstance(dataset, Dataset):  # a streamed set is too large to be read for this
        values["data"]["sha256"] = fingerprint(dataset)
    devices = check_devices(config.devices, {"recipe.batch_size": recipe.batch_size // recipe.accumulate})
    images = images_of(config, devices)
    _check_data(config, images, dataset)
    mean, std = statistics(dataset.x_train) if isinstance(dataset, Dataset) else IMAGENET_STATISTICS
    augmentation = Augmentation(config.data.crop_padding, config.data.flip, config.data.cutout, mean, std)
    check_settings(augmentation, images.channels)
    made = EvaluationPlan(
        config=values,
        seeds=tuple(range(config.seed, config.seed + config.num_seeds)),
        images=images,
        dataset=dataset,
        devices=devices,
        recipe=recipe,
        augmentation=augmentation,
        cadence=Cadence(config.checkpoint.every_steps, config.checkpoint.every_seconds),
        candidates=_candidates(config, images),
        teacher=_teacher(config, images) if config.teacher.workdir else None,
    )
    if made.teacher:
        values["teacher"]["sha256"] = _digest(made.teacher[1])
    for texts in made.candidates.values():
        for text in texts:
            _rehearse(made, text)
    if len(made.candidates[FOUND]) > 1:  # what selection keeps to train on may be less than a batch
        made.training(made.candidates[FOUND][0], FOUND, select=True)
    return made


def images_of(config: Config, devices: Devices | None = None) -> Images:
    """What the config's networks read; devices: those that share a batch, None for one."""
    axis_name = devices.axis_name if devices and config.synchronize_statistics else None
    size = config.images.size
    return Images(size, size, config.images.channels, config.images.classes, axis_name)


def build_network(config: Mapping[str, Any], images: Images, text: str) -> nn.Module:
    """The network that a config (or its plain values) describes, with its substitutes; text: of its architecture."""
    settings = {name: hashable(value) for name, value in config["network"].items() if name != "name"}
    network = NETWORKS[config["network"]["name"]].build(images, text, **settings)
    substitute = config["substitute"]
    if substitute["kind"] == DENSE:
        return network
    return substituted(
        network,
        images.shape,
        kind=substitute["kind"],
        budget=substitute["budget"],
        setting=substitute["setting"],
        keep=tuple(substitute["keep"]),
    )


def lighter_decay(network: nn.Module, image_shape: tuple[int, int, int]) -> LighterDecay | None:
    """How much less substitutes decay: by the share of its parameters that the whole network keeps.

    Source: Gray, Crowley & Storkey 2019, section 4 (compression-ratio scaled weight decay).
    """
    if not isinstance(network, SubstitutedNetwork):
        return None
    compressed = without_auxiliary(network)
    assert isinstance(compressed, SubstitutedNetwork)
    ratio = network_cost(compressed, image_shape).params / network_cost(compressed.network, image_shape).params
    return LighterDecay(frozenset(one.path for one in network.replacements), ratio)


def genotypes(text: str, name: str) -> tuple[str, ...]:
    """The architectures that `config.genotype` stands for: one, or what every seed of a search found, its choice first.

    text: a published name, the architecture itself, or a search's result.json. name: of the network that is asked for.
    Genotypes of cells come in the literature's notation.
    """
    if not text.endswith(".json"):
        return (format_genotype(parse_genotype(text)) if name == CELLS else text,)
    result = read_json(Path(text).expanduser())
    field = "genotype" if name == CELLS else "architecture"
    entries = [result, *result.get("per_seed", ())]
    if not all(isinstance(entry.get(field), str) for entry in entries):
        raise UserError(f"{text} is no result of a search: it has no field {field!r}; give the result.json of one.")
    return tuple(dict.fromkeys(entry[field] for entry in entries))


def _candidates(config: Config, images: Images) -> Mapping[str, tuple[str, ...]]:
    searchable = NETWORKS[config.network.name].searchable
    if searchable is None:
        return {FOUND: ("",)}
    found = genotypes(config.genotype, config.network.name)
    found = found if config.selection.epochs else found[:1]
    if not config.selection.random_baseline:
        return {FOUND: found}
    settings = {name: hashable(value) for name, value in config.network.items() if name != "name"}
    space, describe = searchable(images, **settings)
    keys = jax.random.split(named(jax.random.key(config.seed), "random_baseline"), len(found))
    return {FOUND: found, RANDOM: tuple(describe(random(space, key)) for key in keys)}


def _opened(config: Config) -> Dataset | ImageStream:
    """The data: in memory, or checked and ready to be streamed."""
    name, path = config.data.name, config.data.path or None
    if not config.data.streamed:
        return load(name, path)
    for field, off in (("crop_padding", 0), ("flip", False), ("validation_fraction", 0.0)):
        if config.data[field] != off:
            raise UserError(
                f"data.{field} is {config.data[field]}, but streamed images are cropped and mirrored as they are "
                f"decoded, and none are held out; set it to {off}."
            )
    if config.selection.epochs:
        raise UserError("selection.epochs needs held-out images, which streamed data have not; set it to 0.")
    return open_stream(name, path, image_size=config.images.size)


def _check_data(config: Config, images: Images, dataset: Dataset | ImageStream) -> None:
    shape = dataset.x_train.shape[1:] if isinstance(dataset, Dataset) else (*[dataset.image_size] * 2, 3)
    if shape != images.shape:
        raise UserError(
            f"{dataset.name} has images of {'x'.join(map(str, shape))}, but config.images says "
            f"{'x'.join(map(str, images.shape))}; set images.size and images.channels to those of the data."
        )
    if len(dataset.class_names) != images.classes:
        raise UserError(
            f"{dataset.name} has {len(dataset.class_names)} classes, but images.classes is {images.classes}."
        )


def _teacher(config: Config, images: Images) -> tuple[Distillation, PyTree]:
    """The teacher that a finished evaluation trained, on its first seed."""
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
