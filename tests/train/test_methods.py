"""One table of methods and spaces, one list of properties that every combination has.

A new method is tested by adding a row.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.augment import Augmentation
from jaxnas.methods import METHODS, Arch, Evolution, Method, Prediction, Setup, Stage, Weights
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.search.splitting import Members
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.space import encode, random
from jaxnas.train import snapshot
from jaxnas.train.parallel import Devices, check_devices, compile_program, init_over_seeds, one_of, over_seeds
from jaxnas.train.search_task import SearchData, search_task
from jaxnas.train.task import advance, finish_epoch, init_run, rehearse

WEIGHTS = Weights(0.1, 0.01, momentum=0.9, weight_decay=3e-4, clip=5.0)
LEARNED = {"weights": WEIGHTS, "logits": Arch(0.1, 1e-3)}
FIRST, EXACT, PAPER = (
    {"order": order, "hessian": hessian}
    for order, hessian in ((1, "autodiff"), (2, "autodiff"), (2, "finite_differences"))
)
TEMPERATURE = {"temperature": 5.0, "final_temperature": 0.5}
GDAS = LEARNED | TEMPERATURE | {"draw": "gumbel", "bare_gates": False}
PROXYLESS = LEARNED | {"warmup_epochs": 1, "every": 2} | FIRST
FBNET = LEARNED | TEMPERATURE | {"warmup_epochs": 1}
COMPOSED = LEARNED | TEMPERATURE | {"samples": 2, "scale": 0.1, "single_level": False} | FIRST
PARTIAL = LEARNED | {"partial": 2, "warmup_epochs": 1}
P_DARTS = (
    LEARNED
    | FIRST
    | {
        "stage_layers": (1, 2),
        "stage_channels": (2, 4),
        "stage_operations": (4, 2),
        "stage_dropout": (0.0, 0.4),
        "warmup_epochs": 0,
        "skips": 1,
    }
)
REWARDED = LEARNED | {"samples": 2, "every": 1, "baseline_decay": 0.9}
ENAS = REWARDED | {"hidden": 4, "temperature": 5.0, "tanh_constant": 2.5, "entropy_weight": 1e-3}
ENAS |= {"skip_weight": 0.8, "skip_target": 0.4, "candidates": 2}
OFF_POLICY = REWARDED | {
    **{f"stage_{name}": () for name in ("layers", "channels", "operations", "dropout", "bases", "exponents")},
    "hard": False,
    "behaviour": "epsilon",
    "epsilon": 0.5,
    "correction": "clipped",
    "importance_clip": 2.0,
    "replay": 4,
    "replayed": 2,
    "warmup_epochs": 0,
    "mode": "interleaved",
    "cycle_epochs": (1, 1),
    "skips": 1,
    "selection": "argmax",
    "entropy_weight": 1e-3,
}
EVOLVED = {"weights": WEIGHTS, "evolution": Evolution(3, 4, 2, 2, 1, 0.3), "calibrate": 0}
SPOS = EVOLVED | {"cost_bins": 0}
SMASH = {"weights": WEIGHTS, "samples": 4, "perturbations": 2, "markov": 2, "mutation_rate": 0.1, "calibrate": 4}
FEW_SHOT = EVOLVED | {"split_at": (), "probes": 2, "member_epochs": 2}
PREDICTED = {"weights": WEIGHTS, "calibrate": 0}
PREDICTED |= {"prediction": Prediction(4, (4,), 4, 4, 0.01, 0.0, 0.5, 2, 4, 2, 2, 2, 0.3, finalists=2)}
ONCE_FOR_ALL = PREDICTED | {
    **{"kernel_epochs": 1, "depth_epochs": (1,), "width_epochs": (1,), "warmup_epochs": 0},
    **{"kernel_learning_rate": 0.05, "depth_learning_rates": (0.05,), "width_learning_rates": (0.05,)},
    **{"kernel_subnets": 1, "depth_subnets": 2, "width_subnets": 3, "distillation": 1.0},
}
FAIRNAS = {"weights": WEIGHTS, "rounds": 2, "population": 4, "mutation_rate": 0.3, "crossover_rate": 0.5}
OPERATIONS = ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3")
CHAIN = {"stem": 2, "stem_stride": 1, "widths": (2, 4), "depths": (1, 2), "strides": (1, 2), "head": 4}
# {name: builder of a tiny family}
SPACES = {
    "cells": functools.partial(
        FAMILIES["darts"],
        channels=2,
        layers=2,
        nodes=1,
        operations=OPERATIONS,
        reduce_operations=(),
        retrain_channels=2,
        retrain_layers=2,
        retrain_auxiliary=False,
    ),
    "benchmark cell": functools.partial(FAMILIES["nas_bench_201"], channels=2, cells=1),
    "chain": functools.partial(FAMILIES["fbnet"], **CHAIN, candidates=("mbconv_k3_e1", "mbconv_k3_e2", "identity")),
    "chain with zeros": functools.partial(
        FAMILIES["proxylessnas"], **CHAIN, first=2, candidates=("mbconv_k3_e1", "mbconv_k3_e2", "zero")
    ),
    "superkernels": functools.partial(
        FAMILIES["superkernel"],
        **CHAIN | {"widths": (4, 4)},
        first=0,
        kernels=(3, 5),
        expansions=(0, 1, 2),
        width_fractions=(0.5, 1),
        resolutions=(4,),
    ),
    "chain of stages": functools.partial(FAMILIES["mnasnet"], **CHAIN, candidates=("separable_k3", "mbconv_k3_e2_se")),
    "macro": functools.partial(
        FAMILIES["enas_macro"], channels=2, layers=3, operations=("conv_3x3", "sep_conv_3x3", "avg_pool_3x3")
    ),
    "memory banks": functools.partial(
        FAMILIES["memory_banks"],
        banks=2,
        filled=1,
        bank_channels=(2, 4),
        depth=2,
        kernels=(1, 3),
        dilations=(1, 2),
        bottleneck=1,
        width_fractions=(0.5, 1.0),
        hypernetwork_hidden=4,
        hypernetwork_depth=1,
    ),
    "elastic": functools.partial(
        FAMILIES["elastic"],
        stem=4,
        stem_stride=1,
        first=0,
        widths=(4,),
        strides=(1,),
        squeeze=(True,),
        hard_swish=(False,),
        final=8,
        head=8,
        kernels=(3, 5),
        expansions=(1, 2),
        depths=(1, 2),
        resolutions=(3, 4),
        divisor=1,
    ),
    "substitutes": functools.partial(
        FAMILIES["substitutes"], depth=10, width=1, candidates=("dense", "low_rank@0.4", "hashed@0.2")
    ),
}
# {name: (method, its settings, the space on which it is run; on all others it is traced)}
ROWS = {
    "darts": ("darts", LEARNED | FIRST, "cells"),
    "gdas": ("gdas", GDAS | FIRST, "cells"),
    "snas": ("snas", LEARNED | TEMPERATURE | {"credit": "pathwise", "samples": 1}, "benchmark cell"),
    "dsnas": ("dsnas", LEARNED | {"fix_above": 0.5}, "chain"),
    "pc_darts": ("pc_darts", PARTIAL | FIRST, "cells"),
    "p_darts": ("p_darts", P_DARTS, "cells"),
    "proxylessnas, two paths": ("proxylessnas", PROXYLESS | {"gates": "two_path"}, "chain with zeros"),
    "fbnet": ("fbnet", FBNET | FIRST | {"candidates": 2}, "chain"),
    "fbnet_v2": ("fbnet_v2", FBNET | FIRST, "superkernels"),
    "single_path": ("single_path", LEARNED, "superkernels"),
    "mdenas": ("mdenas", {"weights": WEIGHTS, "distribution_learning_rate": 0.1, "warmup_epochs": 0}, "chain"),
    "nes": ("composed", COMPOSED | {"sampler": "gumbel_straight_through", "estimator": "nes"}, "benchmark cell"),
    "enas": ("enas", ENAS, "macro"),
    "proxylessnas_r": ("proxylessnas_r", REWARDED | {"warmup_epochs": 0}, "chain with zeros"),
    "off_policy": (
        "off_policy",
        OFF_POLICY
        | {
            "stage_layers": (1, 2),
            "stage_channels": (2, 4),
            "stage_operations": (4, 2),
            "stage_dropout": (0.0, 0.4),
            "selection": "best_sampled",
        },
        "cells",
    ),
    "off_policy, apart": (
        "off_policy",
        OFF_POLICY | {"mode": "separate", "behaviour": "random", "correction": "self_normalised", "selection": "vote"},
        "benchmark cell",
    ),
    "random": ("random", {"weights": WEIGHTS, "candidates": 2}, "cells"),
    "halving": ("halving", {"weights": WEIGHTS, "candidates": 2, "reduction": 2, "rungs": 2}, "cells"),
    "random_nas": ("random_nas", {"weights": WEIGHTS, "candidates": 6, "finalists": 2, "calibrate": 0}, "cells"),
    "one_shot": (
        "one_shot",
        {"weights": WEIGHTS, "dropout": 0.1, "candidates": 3, "calibrate": 4},
        "chain with zeros",
    ),
    "spos": ("spos", SPOS, "chain"),
    "few_shot": ("few_shot", FEW_SHOT | {"splits": 1}, "chain with zeros"),
    "smash": ("smash", SMASH, "memory banks"),
    "once_for_all": ("once_for_all", ONCE_FOR_ALL, "elastic"),
    "joint": ("joint", PREDICTED | {"subnets": 2, "distillation": 1.0}, "elastic"),
    "sandwich": ("sandwich", PREDICTED | {"subnets": 1, "calibrate": 4}, "elastic"),
    "fairnas": ("fairnas", FAIRNAS | {"calibrate": 4}, "benchmark cell"),
    "predicted": ("predicted", PREDICTED, "chain"),
}
# Variants that are traced on every space and nothing more.
TRACED = {
    "darts second order, exact": ("darts", LEARNED | EXACT, "cells"),
    "score function": (
        "composed",
        COMPOSED | {"sampler": "multinomial_straight_through", "estimator": "score_function"},
        "chain",
    ),
    "proxylessnas, recomputing": ("proxylessnas", PROXYLESS | {"gates": "recompute"}, "chain with zeros"),
    "fbnet second order": ("fbnet", FBNET | PAPER | {"candidates": 2}, "chain of stages"),
    "two paths by evolution": ("composed", COMPOSED | {"sampler": "two_paths", "estimator": "nes"}, "chain"),
}
# Variants whose mathematics is tested elsewhere: they are traced on their space.
VARIANTS = {
    "proxylessnas, full": ("proxylessnas", PROXYLESS | {"gates": "full"}, "chain with zeros"),
    "darts second order, paper": ("darts", LEARNED | PAPER, "cells"),
    "gdas, bare gates": ("gdas", GDAS | FIRST | {"bare_gates": True}, "benchmark cell"),
    "gdas, multinomial": ("gdas", GDAS | FIRST | {"draw": "multinomial"}, "benchmark cell"),
    "gdas second order": ("gdas", GDAS | EXACT, "benchmark cell"),
    "snas, credited cost": ("snas", LEARNED | TEMPERATURE | {"credit": "score", "samples": 4}, "benchmark cell"),
    "spos, calibrated": ("spos", SPOS | {"calibrate": 3}, "cells"),
}
# What a method needs of a space, in the sentence that refuses another.
REFUSED = {
    "pc_darts": "has no channels that can pass an edge by",
    "p_darts": "has no stack of cells of any depth",
    "single_path": "share no weights",
    "once_for_all": "has no kernels and expansions|first channels of wide ones",
    "joint": "has no kernels and expansions",
    "sandwich": "has no kernels and expansions",
}
# Where such a method runs, if not on cells.
TAKEN = {
    "single_path": ("superkernels",),
    "once_for_all": ("elastic",),
    **dict.fromkeys(("joint", "sandwich"), ("superkernels", "elastic")),
}
EPOCHS, BATCH, EXAMPLES, CLASSES = 2, 4, 24, 3
OWN_EPOCHS = {"halving": 3}  # what its rungs can share
SEEDS = (0, 1)


def make_data():
    """Images whose brightness tells their class, so that a few steps learn something."""
    labels = jnp.arange(EXAMPLES) % CLASSES
    noise = jax.random.randint(jax.random.key(0), (EXAMPLES, 4, 4, 1), 0, 60)
    images = (noise + 90 * labels[:, None, None, None]).astype(jnp.uint8)
    rows = jnp.arange(EXAMPLES)
    return SearchData(images, labels.astype(jnp.int32), rows[: EXAMPLES // 2], rows[EXAMPLES // 2 :])


ONE_DEVICE = Devices()


def make(row, space=None, devices=ONE_DEVICE, synchronize=True, batch_size=BATCH, priced=False, family=None):
    """The family and the stages of a row: (stage, task) in turn."""
    name, settings, home = (ROWS | TRACED | VARIANTS)[row]
    epochs = OWN_EPOCHS.get(name, EPOCHS)
    family = family or SPACES[space or home](Images(4, 4, 1, CLASSES, devices.axis_name if synchronize else None))
    setup = Setup(family.space, family.supernet, EXAMPLES // 2 // batch_size, epochs, devices.mean)
    if priced:
        setup = setup._replace(cost=first_options, penalty=lambda loss, cost: loss + 0.1 * cost)
    made = METHODS[name](setup, **settings)
    stages = (Stage("search", epochs, made),) if isinstance(made, Method) else made
    tasks = [
        search_task(
            stage,
            family.space,
            batch_size=batch_size,
            counts=(EXAMPLES // 2, EXAMPLES // 2),
            augmentation=Augmentation(0, False, 0, (0.5,), (0.25,)),
            devices=devices,
        )
        for stage in stages
    ]
    return family, list(zip(stages, tasks, strict=True))


def first_options(gates):
    """A cost that is linear in the gates: how many choices take their first option."""
    return sum(jnp.sum(values[:, 0]) for values in gates.values())


class Built:
    """A row's last stage, compiled once for all tests of this file, with the number of times it was traced.

    `before` are the learners that the stage before, where there is one, ended with.
    """

    def __init__(self, row, **settings):
        family, stages = make(row, **settings)
        self.space, self.data = family.space, make_data()
        self.earlier, self.before, self.last_training = [], (), ()
        for stage, task in stages[:-1]:
            self.earlier.append(Compiled(task, self.data, self.before))
            ended = self.earlier[-1].search()
            self.before = ended.learner
            if stage.steps_per_epoch is None:
                self.last_training = (self.earlier[-1].start(), ended)
        (stage, self.task) = stages[-1]
        if stage.steps_per_epoch is None:
            self.last_training = ()  # the last stage's own
        self.method = stage.method
        self.program = Compiled(self.task, self.data, self.before)
        self.start, self.advance = self.program.start, self.program.advance
        self.finish_epoch, self.search = self.program.finish_epoch, self.program.search

    @property
    def traces(self):
        return self.program.traces


copied = jax.jit(functools.partial(jax.tree.map, jnp.copy))


class Compiled:
    """A task compiled for two seeds."""

    def __init__(self, task, data, before=()):
        self.task, self.before = task, before
        one = one_of(before, 0)
        self.shapes = rehearse(task, data, one)
        self.traces = 0
        self._init = functools.cache(self._first_state)

        def steps(run, data, count):
            self.traces += 1
            return advance(task, run, data, count)

        run, self.data = task.devices.replicate((self.start(), data))
        count = jnp.zeros((), jnp.int32)
        self._advance = compile_program(over_seeds(steps, one_by_one=True), task.devices, run, self.data, count)
        closing = over_seeds(lambda run, data: finish_epoch(task, run, data), one_by_one=True)
        self._finish = compile_program(closing, task.devices, run, self.data)

    def start(self, seeds=SEEDS):
        return self.task.devices.replicate(copied(self._init(seeds)))  # a program takes its arguments

    def _first_state(self, seeds):
        before = jax.jit(lambda before: jax.tree.map(lambda leaf: leaf[: len(seeds)], before))(self.before)
        return init_over_seeds(lambda key, before: init_run(self.task, key, self.shapes, before), seeds, before)

    def advance(self, run, count):
        return self._advance(run, self.data, jnp.asarray(count, jnp.int32))

    def finish_epoch(self, run):
        return self._finish(run, self.data)

    def search(self):
        run = self.start()
        for _ in range(self.task.epochs):
            run = self.finish_epoch(self.advance(run, self.task.steps_per_epoch))
        return run

    def interrupted_search(self):
        """As if killed after every epoch's first step and at its end, and continued from what a checkpoint holds."""
        template = jax.eval_shape(self.start)

        def continued(run):
            return self.task.devices.replicate(snapshot.unpack(template, snapshot.pack(run)))

        run = self.start()
        for _ in range(self.task.epochs):
            run = continued(self.advance(run, 1))
            if self.task.steps_per_epoch > 1:
                run = continued(self.advance(run, self.task.steps_per_epoch - 1))
            run = continued(self.finish_epoch(run))
        return run


@functools.lru_cache(maxsize=4)  # compiled programs hold memory mappings, of which a process has a limited number
def built(row):
    return Built(row, priced="cost" in row)


@pytest.fixture(params=ROWS)
def row(request):
    return built(request.param)


@pytest.mark.parametrize("row_name", ROWS)
def test_contract(row_name):
    """What every method promises, over a whole search of two seeds."""
    row = built(row_name)
    start, run = row.start(), row.search()
    chex.assert_trees_all_equal_shapes_and_dtypes(start, run)
    chex.assert_tree_all_finite(run.learner)
    for stage in (*row.earlier, row.program):
        chex.assert_trees_all_equal(stage.interrupted_search(), stage.search())
    assert row.traces == 1
    assert run.step.tolist() == [row.task.steps] * 2
    assert run.failed.tolist() == [-1, -1]
    # Something was learned by every seed: weights moved in the last stage in which they learn, and the loss fell.
    params = (run.learner.params for run in (row.last_training or (start, run)))
    begun, ended = ((own.params if isinstance(own, Members) else own)["stem"] for own in params)
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: not np.array_equal(a, b), begun, ended)))
    assert np.max(jax.device_get(run.history["valid_accuracy"])) > np.float32(1 / CLASSES)
    for part, (choices, options) in row.space.shapes.items():
        assert run.history[f"architecture/{part}"].shape == (2, row.task.epochs, choices)
        probabilities = run.history[f"probabilities/{part}"]
        assert probabilities.shape == (2, row.task.epochs, choices, options)
        np.testing.assert_allclose(np.asarray(probabilities).sum(-1), 1.0, rtol=1e-5)
    found = jax.jit(jax.vmap(row.method.derive))(run.learner)
    again = jax.jit(jax.vmap(lambda one: row.space.decode(encode(row.space, one))))(found)
    chex.assert_trees_all_equal(again, found)  # valid, and the inverse of its encoding
    for number in range(2):
        one = one_of(found, number)
        chex.assert_trees_all_equal(row.space.parse(row.space.canonical(one)), one)


EVERYWHERE = [*{settings[0]: name for name, settings in ROWS.items()}.values(), *TRACED]


@functools.cache
def shared_family(space):
    """Its supernets are traced once for all methods, which takes most of the time that a method is traced in."""
    family = SPACES[space](Images(4, 4, 1, CLASSES))

    @functools.cache
    @functools.wraps(family.supernet)  # whose settings tell what the space has
    def supernet(**settings):
        network = family.supernet(**settings)
        return network._replace(init=jax.jit(network.init), apply=jax.jit(network.apply))

    return family._replace(supernet=supernet)


@pytest.mark.parametrize(
    ("row_name", "space"),
    [(row, space) for row in EVERYWHERE for space in SPACES] + [(row, home) for row, (*_, home) in VARIANTS.items()],
)
def test_every_method_runs_on_every_space(row_name, space):
    """Traced, with a cost: a step, an epoch's end and every stage; or one sentence that says what the space lacks."""
    name = (ROWS | TRACED | VARIANTS)[row_name][0]
    if name in REFUSED and space not in TAKEN.get(name, ("cells",)):
        with pytest.raises(UserError, match=REFUSED[name]):
            make(row_name, space)
        return
    _, stages = make(row_name, priced=True, family=shared_family(space))
    before = ()
    for _, task in stages:
        shapes = rehearse(task, make_data(), before)
        before = shapes.learner
        assert {"train_loss", "valid_accuracy", "search_accuracy"} <= set(shapes.history)


@pytest.mark.parametrize("alone", [True, False])
def test_seeds_are_the_same_alone_in_a_loop_and_in_a_batch(alone):
    """On the CPU seeds run in a loop, on accelerators in a batch, and one by itself has no axis at all."""
    row = built("darts")
    expected = row.advance(row.start(), 2)
    seeds = (1,) if alone else SEEDS
    other = over_seeds(lambda run, data: advance(row.task, run, data, 2), one_by_one=False)
    actual = jax.jit(other)(row.start(seeds), row.data)
    if alone:
        expected = jax.tree.map(lambda leaf: leaf[1:], expected)
    for name in ("train_loss", "logits_loss"):
        np.testing.assert_allclose(actual.sums[name], expected.sums[name], rtol=1e-3)
    chex.assert_trees_all_close(actual.learner.params, expected.learner.params, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("space", SPACES)
def test_calibrated_predictions_depend_on_no_other_image(space):
    """With the first three images held; these are answered as if they were the whole batch."""
    family = SPACES[space](Images(4, 4, 1, CLASSES))
    calibrated, plain = (jax.jit(family.supernet(paths=1, **own).apply) for own in ({"calibrate": 3}, {}))
    params = family.supernet(paths=1).init(jax.random.key(0))
    gates = encode(family.space, random(family.space, jax.random.key(4)))
    images = jax.random.normal(jax.random.key(1), (6, 4, 4, 1))
    answers = calibrated(params, gates, images)
    others = calibrated(params, gates, images.at[4].multiply(9.0))
    np.testing.assert_allclose(others[jnp.asarray([0, 1, 2, 3, 5])], answers[jnp.asarray([0, 1, 2, 3, 5])], rtol=1e-5)
    np.testing.assert_allclose(answers[:3], plain(params, gates, images[:3]), rtol=1e-3, atol=1e-4)
    assert not np.allclose(others[4], answers[4], rtol=1e-3)


def test_gdas_touches_exactly_the_weights_that_were_drawn():
    """After one step, the candidates that were not drawn are as they were, and so is their momentum."""
    row = built("gdas")
    before, after = row.start(), row.advance(row.start(), 1)
    moved = jax.tree.map(
        lambda a, b: np.asarray(jnp.any(a != b, axis=range(2, a.ndim))),
        [cell["edges"] for cell in before.learner.params["cells"]],
        [cell["edges"] for cell in after.learner.params["cells"]],
    )
    rolling = jax.tree.map(
        lambda leaf: np.asarray(jnp.any(leaf != 0, axis=range(2, leaf.ndim))),
        [cell["edges"] for cell in optax.tree_utils.tree_get(after.learner.weights_state, "trace")["cells"]],
    )
    drawn = 0
    for cell, cell_rolling in zip(moved, rolling, strict=True):
        for group, operations in cell.items():
            # An edge runs one operation: of its candidates that have weights, at most one moves.
            per_edge = sum(
                np.any(np.stack(list(weights.values())), axis=0).astype(int) for weights in operations.values()
            )
            assert per_edge.max() <= 1
            drawn += per_edge.sum()
            for operation, weights in operations.items():
                for name, flags in weights.items():
                    np.testing.assert_array_equal(cell_rolling[group][operation][name], flags)
    assert drawn > 0


def test_random_search_keeps_the_best_of_its_candidates():
    row = built("random")
    run = row.search()
    accuracies = run.history["valid_accuracy"]  # one epoch each for two candidates
    np.testing.assert_allclose(run.learner.memory.accuracy, jnp.max(accuracies, axis=1))
    np.testing.assert_allclose(run.history["search_accuracy"][:, -1], jnp.max(accuracies, axis=1))
    first = row.start().learner.logits
    second = run.learner.logits  # what was trained last
    found = jax.vmap(row.method.derive)(run.learner)
    for number, best in enumerate(jnp.argmax(accuracies, axis=1).tolist()):
        expected = row.space.decode(jax.tree.map(lambda leaf, n=number: leaf[n], (first, second)[best]))
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf, n=number: leaf[n], found), expected)


@pytest.mark.parametrize("candidates", [0, 3])
def test_random_search_needs_an_epoch_for_every_candidate(candidates):
    with pytest.raises(UserError, match=f"method.candidates is {candidates}, which does not share 2 epochs"):
        METHODS["random"](Setup(cell_space(1, OPERATIONS), None, 3, 2), weights=WEIGHTS, candidates=candidates)


def test_a_loss_that_is_not_finite_stops_at_its_step():
    row = built("darts")
    run = row.start()
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.inf), run.learner.params["stem"])
    params = run.learner.params | {"stem": broken}
    run = row.advance(run._replace(learner=run.learner._replace(params=params)), 3)
    assert run.failed.tolist() == [-1, 0]  # the second seed, at once; the first goes on
    assert run.step.tolist() == [3, 3]


@pytest.mark.parametrize("row_name", ["darts second order, exact", "gdas"])
def test_four_devices_equal_one(row_name):
    """The same global batch, cut into four: gradients, batch statistics and metrics are those of the whole.

    After one step Adam's first moment and the momentum buffer are the gradients up to a factor; the step itself, nearly
    their sign, would amplify the rounding of those near zero.
    """
    one, four = built(row_name), Built(row_name, devices=check_devices(4, {"batch_size": BATCH}))
    expected, actual = (b.finish_epoch(b.advance(b.start(), 1)) for b in (one, four))
    for state, moment in (("logits_state", "mu"), ("weights_state", "trace")):
        a, e = (optax.tree_utils.tree_get(getattr(run.learner, state), moment) for run in (actual, expected))
        scale = float(optax.tree.norm(e))
        assert scale > 0
        assert float(optax.tree.norm(jax.tree.map(jnp.subtract, a, e))) < 2e-3 * scale
    for name in ("train_loss", "logits_loss", "valid_loss"):
        np.testing.assert_allclose(actual.history[name], expected.history[name], rtol=1e-3)


def test_unsynchronised_statistics_are_those_of_each_device():
    synchronised, apart = (
        Built("snas", devices=check_devices(2, {"batch_size": BATCH}), synchronize=flag) for flag in (True, False)
    )
    losses = [b.advance(b.start(), 1).sums["train_loss"] for b in (synchronised, apart)]
    assert not np.allclose(*losses, rtol=1e-4)


def test_devices_have_to_divide_the_batch():
    with pytest.raises(UserError, match="batch_size 6 does not divide over 4 devices; the nearest that does is 8"):
        check_devices(4, {"batch_size": 6})
    with pytest.raises(UserError, match="devices is 99, but this machine has"):
        check_devices(99, {"batch_size": 99})
