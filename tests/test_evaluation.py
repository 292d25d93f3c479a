"""Evaluations from config to export: what they write, that nothing that befalls them changes it, and mistakes."""

import html
import importlib
import io
import json
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from PIL import Image
from tiny_run import ROOT, Process, contents, images, launch, outcome, saved_steps, write_data

from jaxnas.core.errors import UserError
from jaxnas.data.augment import normalize
from jaxnas.data.dataset import Dataset
from jaxnas.evaluate.description import describe_network
from jaxnas.evaluate.export import exported_variables, load_exported
from jaxnas.evaluation import evaluate
from jaxnas.evaluation_network import build_network, genotypes
from jaxnas.evaluation_plan import evaluation_plan
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.spaces.genotype import format_genotype, parse_genotype
from jaxnas.train.parallel import compile_program, init_over_seeds, over_seeds
from jaxnas.train.task import advance, init_run, rehearse
from tests.data.prepared_set import write

LAUNCHER = ROOT / "launch/evaluate.py"
EDGES = [("skip_connect", 0), ("max_pool_3x3", 1)]
GENOTYPE = format_genotype(
    parse_genotype(f"Genotype(normal={EDGES}, normal_concat=[2], reduce={EDGES}, reduce_concat=[2])")
)
SHAPE = (4, 4, 1)
# What every tiny evaluation has; a network of its own follows.
FIELDS = {
    "images.size": 4,
    "images.channels": 1,
    "images.classes": 3,
    "data.name": "npz",
    "data.crop_padding": 1,
    "data.flip": False,
    "data.cutout": 0,
    "recipe.epochs": 2,
    "recipe.batch_size": 8,
    "recipe.learning_rate": 0.05,
}
CELLS = FIELDS | {
    "network.channels": 2,
    "network.layers": 2,
    "network.auxiliary": False,
    "genotype": GENOTYPE,
    "recipe.drop_path": 0.2,
    "selection.random_baseline": False,
    "num_seeds": 2,
}
WIDE = FIELDS | {"network.depth": 10, "network.width": 1}
CHAIN = {"stem": 2, "stem_stride": 1, "widths": (2,), "depths": (2,), "strides": (1,), "head": 4}
CHAIN |= {"candidates": ("mbconv_k3_e1", "mbconv_k3_e2", "identity")}


def make(name: str, values: dict[str, Any], **fields: Any) -> Any:
    """The config of a file, with fields replaced; those of `fields` are written with __ for the dot."""
    config = importlib.import_module(f"configs.evaluate.{name}").get_config()
    for field, value in (values | {name.replace("__", "."): value for name, value in fields.items()}).items():
        *groups, last = field.split(".")
        place = config
        for group in groups:
            place = place[group]
        place[last] = value
    return config


def arguments(workdir: Path, name: str, values: dict[str, Any], **fields: Any) -> list[str]:
    """The command line of the same evaluation."""
    values = values | {name.replace("__", "."): value for name, value in fields.items()}
    config = ROOT / "configs" / "evaluate" / f"{name}.py"
    flags = [f"--config.{field}={value}" for field, value in values.items()]
    return [str(LAUNCHER), f"--config={config}", f"--workdir={workdir}", *flags]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "bright.npz")


@pytest.fixture(scope="module")
def cells(data):
    return CELLS | {"data.path": str(data)}


@pytest.fixture(scope="module")
def wide(data):
    return WIDE | {"data.path": str(data)}


@pytest.fixture(scope="module")
def finished(cells, tmp_path_factory):
    """The workdir of an evaluation that nothing befell, in this process."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert launch(arguments(workdir, "darts_cifar10", cells)) == 0
    return workdir


def whole(workdir: Path) -> dict[str, Any]:
    """All that two evaluations with the same results have in common, bit for bit: without times, with the export."""
    common: dict[str, Any] = outcome(workdir, ("found",)) | {"export": contents(workdir / "export")}
    del common["result"]["found"]["seconds_per_epoch"]
    return common


def read(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / "result.json").read_text())


def test_an_evaluation_writes_what_it_promises(finished, cells):
    names = {
        "config.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "export",
        "result.json",
        "report.html",
        ".lock",
    }
    assert {path.name for path in finished.iterdir()} == names
    result, plan = read(finished), evaluation_plan(make("darts_cifar10", cells))
    assert (result["network"], result["data"], result["seeds"]) == ("cells", "bright", [0, 1])
    assert min(result["seconds"].values()) > 0 and set(result["seconds"]) == {"compile", "run"}
    found = result["found"]
    assert found["cost"] == describe_network(build_network(plan.config, plan.images, GENOTYPE), SHAPE)
    assert "random" not in result and "selection" not in found and found["genotype"] == GENOTYPE
    accuracies = found["test"]["accuracy"]
    assert len(accuracies) == 2 and all((12 * one) == pytest.approx(round(12 * one)) for one in accuracies)
    assert found["summary"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert found["summary"]["accuracy"]["std"] == pytest.approx(np.std(accuracies, ddof=1))
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10]
    # Fewer than ten epochs: the means of all.
    losses = [np.mean([row[f"found/loss/seed_{seed}"] for row in rows]) for seed in (0, 1)]
    assert losses[0] != losses[1]
    assert found["last_epochs"]["loss"]["mean"] == pytest.approx(np.mean(losses))


def test_the_report_shows_what_came_out(finished):
    page = html.unescape((finished / "report.html").read_text())
    assert page.startswith("<!DOCTYPE html>")
    result = read(finished)
    for piece in ("Normal cell", "Reduction cell", "Training loss", "Every seed", GENOTYPE, "cells 2-2 on bright"):
        assert piece in page
    for accuracy in result["found"]["test"]["accuracy"]:
        assert f"{accuracy:.2%}".replace("%", "") in page
    for gone in ("Substitutes", "Selection", "Distance of attention maps", "Random"):
        assert gone not in page


def test_an_export_answers_as_the_network_does(finished, cells):
    """The first seed's, on the test images, normalised by the training images' statistics inside."""
    plan = evaluation_plan(make("darts_cifar10", cells))
    assert isinstance(plan.data.source, Dataset)
    exported, variables = load_exported(finished / "export"), exported_variables(finished / "export")
    pictures = plan.data.source.x_test
    logits = exported.answer(pictures)
    expected, _ = build_network(plan.config, plan.images, GENOTYPE).apply(
        variables, normalize(plan.data.augmentation, jnp.asarray(pictures)), train=False
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    right = np.mean(np.argmax(logits, axis=1) == plan.data.source.y_test)
    assert right == pytest.approx(read(finished)["found"]["test"]["accuracy"][0])
    assert (exported.image_shape, exported.class_names) == (SHAPE, tuple(plan.data.source.class_names))
    assert exported.description["genotype"] == GENOTYPE
    assert exported.description["params"] == read(finished)["found"]["cost"]["params"]


def test_image_files_are_classified_as_their_arrays(finished, tmp_path, capsys):
    pictures, _ = images(12, seed=1)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture[..., 0]).save(tmp_path / f"{number:02}.png")
    exported = load_exported(finished / "export")
    expected = [exported.class_names[one] for one in np.argmax(exported.answer(pictures), axis=1)]
    flags = [f"--model={finished / 'export'}", f"--images={tmp_path}", "--top=1", "--json=True"]
    assert launch([str(ROOT / "launch/predict.py"), *flags]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["classes"][0]["name"] for row in rows] == expected


def test_a_finished_evaluation_is_left_as_it_is(finished, cells, capsys):
    before = contents(finished)
    assert launch(arguments(finished, "darts_cifar10", cells)) == 0
    assert "holds this run, finished; nothing is left to do" in capsys.readouterr().err
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe__epochs": 3}, r"differs .* recipe.epochs \(was 2, is now 3\); put"),
        ({"network__layers": 3, "seed": 1}, r"seed \(was 0, is now 1\).* network.layers \(was 2, is now 3\)"),
    ],
)
def test_a_changed_config_is_refused(finished, cells, fields, message):
    before = contents(finished)
    with pytest.raises(UserError, match=message):
        evaluate(make("darts_cifar10", cells, **fields), finished)
    assert contents(finished) == before


def test_stopped_in_an_epoch_and_killed_it_ends_the_same(finished, cells, tmp_path):
    workdir = tmp_path / "run"
    command = arguments(workdir, "darts_cifar10", cells, checkpoint__every_steps=1)
    with Process(command) as process:
        process.wait_for(lambda: saved_steps(workdir, "found"))
        process.send(signal.SIGTERM)
        assert process.end()[0] == 128 + signal.SIGTERM
        assert re.search(r"^SIGTERM: stopped in found at step [1-9] of 10, saved; .*$", process.stderr, re.M)
    with Process(command) as process:
        before = saved_steps(workdir, "found")[-1]
        process.wait_for(lambda: saved_steps(workdir, "found")[-1] > before)
        process.send(signal.SIGKILL)
        process.end()
    assert not (workdir / "result.json").exists()
    assert launch(command) == 0
    assert whole(workdir) == whole(finished)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """The fields of an evaluation on a set of files that is streamed: 40 training and 12 test images of any size."""
    import tensorflow_datasets as tfds

    features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(num_classes=3)}

    def picture(pixels, number):
        file = io.BytesIO()
        Image.fromarray(np.pad(pixels[..., 0], ((1, 1), (0, number % 3)))).convert("RGB").save(file, "PNG")
        file.seek(0)
        return file

    def pictures(count, seed):
        rows = enumerate(zip(*images(count, seed), strict=True))
        return [(picture(pixels, number), int(label)) for number, (pixels, label) in rows]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        folder = tmp_path_factory.mktemp("sets")
        write(folder, features, {"train": pictures(40, 0), "test": pictures(12, 1)})
    own = {"data.name": "tiny", "data.path": str(folder), "data.streamed": True, "data.crop_padding": 0}
    return CELLS | own | {"images.channels": 3, "data.workers": 0}


def test_a_streamed_evaluation_continues_in_an_epoch_bit_for_bit(streamed, tmp_path):
    """Whatever the number of processes that decode: one until it is killed, none then."""
    workdir, alone = tmp_path / "killed", tmp_path / "alone"
    with Process(arguments(workdir, "darts_cifar10", streamed, checkpoint__every_steps=1, data__workers=1)) as process:
        process.wait_for(lambda: len(saved_steps(workdir, "found")) >= 2)
        process.send(signal.SIGKILL)
        process.end()
    assert 2 <= saved_steps(workdir, "found")[-1] < 10
    for folder in (workdir, alone):
        assert launch(arguments(folder, "darts_cifar10", streamed)) == 0
    assert whole(workdir) == whole(alone)
    accuracies = read(alone)["found"]["test"]["accuracy"]
    assert len(accuracies) == 2 and all((12 * one) == pytest.approx(round(12 * one)) for one in accuracies)


@pytest.fixture(scope="module")
def teacher(wide, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("teacher") / "run"
    config = make("wrn_digits", wide, recipe__epochs=1, substitute__kind="low_rank", substitute__budget=0.5)
    evaluate(config, workdir)
    return workdir


def test_substitutes_are_reported_layer_by_layer(teacher):
    cost = read(teacher)["found"]["cost"]
    page = html.unescape((teacher / "report.html").read_text())
    assert len(cost["substitutes"]) == 6
    assert all(one["params"] <= 0.5 * one["dense_params"] for one in cost["substitutes"])
    for piece in ("Substitutes", "group_3/block_1/convolution_2", "low rank", f"{cost['substitutes'][0]['params']:,}"):
        assert piece in page


STUDENT = {"teacher__taps": (("cell_0", "group_2/block_1"),), "teacher__attention": 10.0}


def test_a_student_learns_from_a_finished_evaluation(cells, teacher, finished, tmp_path):
    """And is tested, reported and continued as any other; the teacher may have moved, but be no other."""
    config = make("darts_cifar10", cells, teacher__workdir=str(teacher), teacher__soft=0.5, num_seeds=1, **STUDENT)
    result = evaluate(config, tmp_path / "run")
    assert {"soft_loss", "attention_loss"} < set(result["found"]["last_epochs"])
    page = html.unescape((tmp_path / "run/report.html").read_text())
    assert "Distance of attention maps" in page and "Divergence from the teacher" in page
    shutil.copytree(teacher, tmp_path / "moved")
    config.teacher.workdir = str(tmp_path / "moved")
    assert evaluate(config, tmp_path / "run")["found"] == result["found"]
    config.teacher.update({"workdir": str(finished), "taps": ()})
    with pytest.raises(UserError, match=r"differs .* teacher.sha256 \(was '\w{64}', is now '\w{64}'\)"):
        evaluate(config, tmp_path / "run")


@pytest.fixture
def chain(data, tmp_path):
    """The config of a chain, its family, two of its architectures, and where a result of a search may be."""
    family = FAMILIES["fbnet"](Images(*SHAPE, 3), **CHAIN)
    texts = ["mbconv_k3_e1+identity", "mbconv_k3_e2+mbconv_k3_e1"]
    config = make("wrn_digits", FIELDS | {"data.path": str(data)}, recipe__epochs=1)
    config.network = ConfigDict({"name": "fbnet", **CHAIN})
    return config, family, texts, tmp_path / "result.json"


def search_result(path, texts):
    """What a search of three seeds leaves, its choice the second of the texts; the third seed found it, too."""
    entries = [{"seed": seed, "architecture": texts[number]} for seed, number in enumerate((0, 1, 1))]
    path.write_text(json.dumps({"architecture": texts[1], "per_seed": entries}))
    return str(path)


def test_the_best_of_short_trainings_is_trained_beside_the_best_random_one(chain, tmp_path):
    config, family, texts, path = chain
    config.genotype = search_result(path, texts)
    config.selection.update({"epochs": 1, "seeds": 2, "validation_fraction": 0.2, "random_baseline": True})
    result = evaluate(config, tmp_path / "run")
    assert [one["genotype"] for one in result["found"]["selection"]] == [
        texts[1],
        texts[0],
    ]  # the search's choice first
    for kind in ("found", "random"):
        shown = result[kind]["selection"]
        assert len({one["genotype"] for one in shown}) == 2
        for one in shown:
            assert family.space.canonical(family.space.parse(one["genotype"])) == one["genotype"]
            assert [round(8 * value, 4) % 1 for value in one["valid_accuracy"]] == [0, 0]  # of 8 held out, 2 seeds
            assert one["mean"] == pytest.approx(np.mean(one["valid_accuracy"]))
        best = max(shown, key=lambda one: one["mean"])
        assert result[kind]["genotype"] == best["genotype"]
        assert (tmp_path / "run/checkpoints" / kind).is_dir()
    page = html.unescape((tmp_path / "run/report.html").read_text())
    assert all(piece in page for piece in ("Selection", "Random", *texts))


def test_without_selection_the_choice_of_the_search_is_trained(chain):
    config, _, texts, path = chain
    config.genotype = search_result(path, texts)
    config.selection.random_baseline = True
    plan = evaluation_plan(config)
    assert plan.candidates["found"] == (texts[1],) and len(plan.candidates["random"]) == 1
    assert evaluation_plan(config).candidates == plan.candidates  # a function of the seed
    config.seed = 1
    assert plan.candidates["random"] != evaluation_plan(config).candidates["random"]


def test_four_devices_take_the_step_of_one(cells):
    """Each with its slice of the batch, and the statistics of all: momenta, running statistics and metrics."""
    runs = []
    for devices in (1, 4):
        # Without drop-path, which every device draws for itself.
        own = {"devices": devices, "synchronize_statistics": True, "recipe.drop_path": 0.0}
        plan = evaluation_plan(make("darts_cifar10", cells | own))
        _, task, own = plan.training(GENOTYPE, "found")
        shapes = rehearse(task, own)
        run = init_over_seeds(lambda key, before, task=task, shapes=shapes: init_run(task, key, shapes), (0,))
        run, own = plan.devices.replicate((run, own))
        step = over_seeds(lambda run, data, count, task=task: advance(task, run, data, count), one_by_one=True)
        count = jnp.ones((), jnp.int32)
        runs.append(compile_program(step, plan.devices, run, own, count)(run, own, count))
    one, four = (
        (optax.tree_utils.tree_get(run.learner.optimizer, "trace"), run.learner.variables["batch_stats"])
        for run in runs
    )
    for a, b in zip(one, four, strict=True):
        difference = optax.tree.norm(jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), a, b))
        assert float(difference) < 2e-3 * float(optax.tree.norm(a))
    for name, value in runs[0].sums.items():
        np.testing.assert_allclose(runs[1].sums[name], value, rtol=1e-3)


# The config file, what is given instead, and what the sentence says.
MISTAKES = [
    ("wide", {"network__name": "wide_resnt"}, "unknown network 'wide_resnt'; did you mean 'wide_resnet'"),
    ("wide", {"network__depth": 11}, "the depth of a wide ResNet is 6 n + 4, not 11; the nearest is 10"),
    ("wide", {"recipe__schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
    ("wide", {"recipe__optimizer": "sgdd"}, "unknown optimizer 'sgdd'; did you mean 'sgd'"),
    ("wide", {"recipe__accumulate": 3}, "recipe.accumulate 3 does not divide the batch size 8"),
    ("wide", {"recipe__warmup_epochs": 2}, "recipe.warmup_epochs 2 leaves nothing of 2 epochs"),
    ("wide", {"recipe__batch_size": 41}, "recipe.batch_size 41 is larger than the 40 examples"),
    ("wide", {"recipe__learning_rate": 0.0}, "recipe.learning_rate must be above 0 and finite, not 0.0"),
    ("wide", {"recipe__epoch": 2}, "unknown config field 'recipe.epoch'; did you mean 'recipe.epochs'"),
    ("wide", {"devices": 3}, "recipe.batch_size 8 does not divide over 3 devices"),
    ("wide", {"images__size": 8}, "bright has images of 4x4x1, but config.images says 8x8x1"),
    ("wide", {"images__channels": 3}, "bright has images of 4x4x1, but config.images says 4x4x3"),
    ("wide", {"images__classes": 10}, "bright has 3 classes, but images.classes is 10"),
    ("wide", {"genotype": "DARTS_V2"}, "'wide_resnet' has no architectures, so that the config has no genotype"),
    ("wide", {"substitute__kind": "hash"}, "unknown substitute 'hash'; did you mean 'hashed'"),
    (
        "wide",
        {"substitute__kind": "low_rank", "substitute__budget": 0.01},
        "convolution_1: the budget of a 3×3 convolution of 16 to 16 channels is 23 parameters, but",
    ),
    (
        "wide",
        {"substitute__kind": "low_rank", "substitute__budget": 500.0},
        "is 500 parameters, but with 'low_rank' this network has at least",
    ),
    ("wide", {"substitute__kind": "low_rank", "substitute__keep": ("stm",)}, "substitute.keep names 'stm'"),
    ("wide", {"substitute__kind": "separable", "substitute__budget": 0.01}, "convolution_1: the budget of a 3×3"),
    ("wide", {"substitute__kind": "hashed_decimate", "substitute__budget": 0.05}, "keeps a tenth of its parameters"),
    ("wide", {"selection__epochs": 1}, "'wide_resnet' has no architectures to select or to draw at random"),
    ("wide", {"selection__random_baseline": True}, "has no architectures to select or to draw at random"),
    ("wide", {"recipe__schedule": "steps", "recipe__decay_epochs": (2,)}, "recipe.decay_epochs has 2, but there are"),
    ("wide", {"recipe__optimizer": "adam", "recipe__nesterov": True}, "recipe.nesterov is of the optimizer 'sgd'"),
    ("cells", {"selection__epochs": 1}, "selection.epochs chooses among several genotypes, but there is one only"),
    ("wide", {"data__streamed": True, "data__crop_padding": 0}, "data.name=npz is read into memory"),
    ("wide", {"data__streamed": True}, "data.crop_padding is 1, but streamed images are cropped and mirrored"),
    ("wide", {"data__streamed": True, "data__crop_padding": 0, "data__flip": True}, "data.flip is True, but streamed"),
    (
        "wide",
        {"data__streamed": True, "data__crop_padding": 0, "selection__epochs": 1},
        "selection.epochs needs held-out images, which streamed data have not; set it to 0",
    ),
    ("cells", {"genotype": "DARTS_V3"}, "unknown genotype 'DARTS_V3'; did you mean 'DARTS_V2'"),
    ("cells", {"genotype": "nowhere/result.json"}, "there is no file 'nowhere/result.json'"),
    ("cells", {"network__auxiliary": True}, "the auxiliary head needs feature maps of at least 8x8 pixels"),
    ("cells", {"network__stem": "cifr"}, "unknown stem 'cifr'; did you mean 'cifar'"),
]
TAUGHT = [
    ({"teacher__taps": (("cell_5", "group_1"),)}, "unknown tap of the student 'cell_5'"),
    ({"teacher__taps": (("cell_0", "group_5"),)}, "unknown tap of the teacher 'group_5'"),
    ({"teacher__taps": (("cell_0", "group_3"),)}, "'cell_0' and 'group_3' have maps of "),
    ({"teacher__temperature": 0.0}, "teacher.temperature must be above 0"),
    ({"teacher__soft": 1.5}, "teacher.soft must be from 0 to 1, not 1.5"),
    ({"teacher__soft": 0.0, "teacher__taps": ()}, "a teacher teaches nothing without teacher.soft"),
    ({"teacher__soft": 0.0, "teacher__attention": 0.0}, "a teacher teaches nothing without teacher.soft"),
    ({"teacher__taps": (("cell_0", 1),)}, "teacher.taps[0] must be two texts"),
    ({"teacher__taps": ("cell_0", "group_1")}, "teacher.taps[0] must be a pair of texts, not 'cell_0'"),
]


def assert_refused(config, workdir, message):
    with pytest.raises(UserError, match=re.escape(message)):
        evaluate(config, workdir)
    assert not workdir.exists()


FILES = {"wide": "wrn_digits", "cells": "darts_cifar10"}


@pytest.mark.parametrize(("base", "fields", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_sentence_and_nothing_is_written(base, fields, message, cells, wide, tmp_path):
    values = {"wide": wide, "cells": cells}[base]
    config = make(FILES[base], values)
    with config.unlocked():
        for field, value in fields.items():
            *groups, last = field.split("__")
            (config[groups[0]] if groups else config)[last] = value
    assert_refused(config, tmp_path / "run", message)


@pytest.mark.parametrize(("fields", "message"), TAUGHT, ids=lambda value: str(value)[:40])
def test_a_mistake_about_a_teacher(fields, message, cells, teacher, tmp_path):
    config = make("darts_cifar10", cells, teacher__workdir=str(teacher), **STUDENT | fields)
    assert_refused(config, tmp_path / "run", message)


def changed_json(path, *names, value):
    content = place = json.loads(path.read_text())
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value
    path.write_text(json.dumps(content))


def lose_the_result(folder, finished):
    (folder / "result.json").unlink()


def take_anothers_export(folder, finished):
    shutil.rmtree(folder / "export")
    shutil.copytree(finished / "export", folder / "export")


def more_classes(folder, finished):
    changed_json(folder / "config.json", "images", "classes", value=5)


def cut_the_weights_off(folder, finished):
    weights = folder / "export/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_the_result, "there is no file "),
        (take_anothers_export, "are of another network: "),
        (more_classes, "was trained with images.classes 5, but this config says 3; both must be the same"),
        (cut_the_weights_off, "is damaged or of another export"),
    ],
)
def test_a_teacher_that_is_none(damage, message, cells, teacher, finished, tmp_path):
    shutil.copytree(teacher, tmp_path / "teacher")
    damage(tmp_path / "teacher", finished)
    config = make("darts_cifar10", cells, teacher__workdir=str(tmp_path / "teacher"), **STUDENT)
    assert_refused(config, tmp_path / "run", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is damaged: it holds no fields"),
        ("[1]", "is damaged: it holds no fields"),
        ('{"found": {}}', "is no result of a search: it has no field 'genotype'; give the result.json of one"),
        ("no json", "is damaged: it is not valid JSON"),
        ('{"genotype": "DARTS_V2", "per_seed": [1]}', "is no result of a search"),
        ('{"genotype": "DARTS_V2", "per_seed": {"a": 1}}', "is no result of a search"),
    ],
)
def test_a_result_that_is_none(text, message, cells, tmp_path):
    (tmp_path / "result.json").write_text(text)
    config = make("darts_cifar10", cells, genotype=str(tmp_path / "result.json"))
    assert_refused(config, tmp_path / "run", message)


def test_genotypes_come_in_the_notation_whatever_they_were_given_as():
    (found,) = genotypes("DARTS_V2", "cells")
    assert found.startswith("Genotype(normal=") and parse_genotype(found) == parse_genotype("DARTS_V2")
    assert genotypes("mbconv_k3_e1+identity", "fbnet") == ("mbconv_k3_e1+identity",)


def test_what_was_found_may_not_change_while_a_run_is_stopped(cells, finished, tmp_path):
    """The result.json that a genotype came from is read again when a run is continued."""
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"genotype": GENOTYPE}))
    config = make("darts_cifar10", cells, genotype=str(file))
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(evaluation_plan(config).config))
    file.write_text(json.dumps({"genotype": GENOTYPE.replace("skip_connect", "none", 1)}))
    with pytest.raises(UserError, match=r"config differs .* architectures.found"):
        evaluate(config, folder)


def test_other_peoples_files_in_the_export_are_found_before_training(cells, tmp_path):
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes.txt' is not of an export; move it away"):
        evaluate(make("darts_cifar10", cells), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_lost_export_is_written_again(finished, cells, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    before = contents(tmp_path / "run" / "export")
    shutil.rmtree(tmp_path / "run" / "export")
    evaluate(make("darts_cifar10", cells), tmp_path / "run")
    assert contents(tmp_path / "run" / "export") == before


def test_an_architecture_of_substitutes_is_not_substituted_again(data, tmp_path):
    network = {"name": "substitutes", "depth": 10, "width": 1, "candidates": ("dense", "hashed@0.5")}
    config = make("wrn_digits", FIELDS | {"data.path": str(data)}, genotype="layers:" + "+".join(["dense"] * 6))
    config.network = ConfigDict(network)
    config.substitute.kind = "hashed"
    assert_refused(config, tmp_path / "run", "the architecture says which layers are substituted")


def test_a_selection_that_leaves_less_than_a_batch(chain, tmp_path):
    config, _, texts, path = chain
    config.genotype = search_result(path, texts)
    config.selection.update({"epochs": 1, "validation_fraction": 0.9})
    assert_refused(config, tmp_path / "run", "recipe.batch_size 8 is larger than the 4 examples")
