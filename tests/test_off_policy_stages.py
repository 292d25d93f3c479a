"""Searches by a policy with shared weights: stages, modes and selection, killed and continued in every stage."""

import functools
import json
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_run import Process, arguments, launch, outcome, saved_steps, write_data

from jaxnas.core.errors import UserError
from jaxnas.core.types import Batch
from jaxnas.methods import METHODS, Arch, Setup, Weights
from jaxnas.methods.off_policy import selected_scores
from jaxnas.methods.policy_updates import Learning, no_experience
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.search.objectives import Batches, SearchState
from jaxnas.search.restriction import keep_strongest
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode
from jaxnas.strategies.strategy import Incumbent

STAGES = ("stage_1", "stage_2")
FIELDS = {
    "num_seeds": 1,
    "epochs": 6,
    "space__reduce_operations": "()",
    "retrain__epochs": 0,
    "method__stage_layers": "(1,1)",
    "method__stage_channels": "(2,2)",
    "method__stage_operations": "(3,2)",
    "method__stage_dropout": "(0.0,0.3)",
    "method__stage_bases": "(300.0,200.0)",
    "method__samples": 2,
    "method__replay": 4,
    "method__replayed": 2,
    "method__warmup_epochs": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "bright.npz")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert launch(arguments(workdir, data, "off_policy", **FIELDS)) == 0
    return workdir


def test_stages_follow_one_another(finished):
    """One row for each epoch of each stage, with rewards after the warm-up alone, and every restricted genotype."""
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    for number, stage in enumerate(STAGES):
        of_stage = rows[3 * number : 3 * number + 3]
        assert all(row[f"{stage}/train_loss"] is not None for row in of_stage)
        for name in ("reward/sampled", "reward/argmax", "reward/argmin", "reward/best", "logits_cost"):
            assert [row[f"{stage}/{name}"] is None for row in of_stage] == [True, False, False]
        sizes = [row[f"{stage}/policy/effective_sample_size"] for row in of_stage[1:]]
        assert all(0 < size <= 4 for size in sizes)
    genotypes = json.loads((finished / "genotypes.json").read_text())
    assert set(genotypes) == {"0", "at most 2 skips", "at most 1 skips", "at most 0 skips"}
    page = (finished / "report.html").read_text()
    assert "Effective sample size" in page and "who trails" in page


def test_killed_in_the_last_stage_and_continued_it_ends_the_same(finished, data, tmp_path):
    """Replay, baseline and the best so far are part of the state."""
    workdir = tmp_path / "run"
    command = arguments(workdir, data, "off_policy", **FIELDS, checkpoint__every_steps=2)
    with Process(command) as process:
        process.wait_for(lambda: saved_steps(workdir, STAGES[-1]))
        process.send(signal.SIGKILL)
        process.end()
    assert not (workdir / "result.json").exists()
    assert launch(command) == 0
    assert outcome(workdir, STAGES) == outcome(finished, STAGES)


LEARNED = {"weights": Weights(0.1, 0.0, 0.9, 0.0, 5.0), "logits": Arch(0.1, 0.0)}
GOOD = {
    "stage_layers": (2, 3),
    "stage_channels": (2, 2),
    "stage_operations": (3, 2),
    "stage_dropout": (0.0, 0.5),
    "stage_bases": (),
    "stage_exponents": (),
    "hard": False,
    "behaviour": "policy",
    "epsilon": 0.5,
    "correction": "none",
    "importance_clip": 2.0,
    "replay": 0,
    "replayed": 0,
    "samples": 2,
    "every": 1,
    "warmup_epochs": 1,
    "mode": "interleaved",
    "cycle_epochs": (1, 1),
    "skips": 2,
    "selection": "argmax",
    "entropy_weight": 0.0,
    "baseline_decay": 0.9,
}
ONE_STAGE = {f"stage_{name}": () for name in ("layers", "channels", "operations", "dropout")}


def make(changed, epochs=4, space="darts", **setup):
    settings = {
        "darts": {
            "channels": 2,
            "layers": 1,
            "nodes": 1,
            "operations": ("none", "skip_connect", "max_pool_3x3"),
            "reduce_operations": (),
            "retrain_channels": 2,
            "retrain_layers": 1,
            "retrain_auxiliary": False,
        },
        "nas_bench_201": {"channels": 2, "cells": 1},
    }
    family = FAMILIES[space](Images(4, 4, 1, 3), **settings[space])
    made = Setup(family.space, family.supernet, 3, epochs)._replace(**setup)
    return METHODS["off_policy"](made, **LEARNED, **(GOOD | changed))


@pytest.mark.parametrize(
    ("changed", "epochs", "message"),
    [
        ({"stage_layers": (2, 3, 3)}, 4, "stage_layers has 3 entries, but method.stage_operations has 2"),
        ({"stage_operations": (2, 2)}, 4, "starts with 2, but the edges of this space have 3 operations"),
        ({"stage_operations": (3, 1)}, 4, "ends below 2, but an edge needs two operations to choose between"),
        ({}, 5, "5 epochs cannot be shared equally by 2 stages; the nearest number that can is 4"),
        ({"warmup_epochs": 2}, 4, "warmup_epochs is 2, but a stage has 2 epochs, of which at least one"),
        ({"every": 9}, 4, "method.every is 9, but only 3 steps are left"),
        ({"stage_bases": (1.0, 1.0)}, 4, "method.stage_bases needs method.stage_exponents"),
        ({"stage_exponents": (-1.0, -1.0)}, 4, "method.stage_exponents needs method.stage_bases"),
        ({"stage_bases": (1.0, 1.0), "stage_exponents": (0.0, 0.0)}, 4, "stage_bases prices what architectures cost"),
        ({"mode": "seperate"}, 4, "unknown mode 'seperate'; did you mean 'separate'"),
        ({"mode": "separate"}, 4, "1 . 1 epochs; the nearest number of a stage's epochs that fits is 3."),
        ({"mode": "separate", "cycle_epochs": (1,)}, 4, "cycle_epochs has 1 entries, but a cycle has two numbers"),
        ({"behaviour": "epsilon greedy"}, 4, "unknown behaviour 'epsilon greedy'; did you mean"),
        ({"behaviour": "epsilon", "epsilon": 0.0}, 4, "epsilon is 0.0, but has to be above 0"),
        ({"correction": "clip"}, 4, "unknown correction 'clip'; did you mean 'clipped'"),
        ({"replayed": 1}, 4, "method.replayed is 1, but method.replay keeps 0 samples"),
        ({"selection": "votes"}, 4, "unknown selection 'votes'; did you mean 'vote'"),
    ],
)
def test_settings_have_to_fit(changed, epochs, message):
    with pytest.raises(UserError, match=message):
        make(changed, epochs)


def test_spaces_of_one_depth_have_one_supernet_in_all_stages():
    with pytest.raises(UserError, match="has no stack of cells of any depth"):
        make({"stage_operations": (5, 3)}, space="nas_bench_201")
    stages = make({"stage_layers": (), "stage_channels": (), "stage_operations": (5, 3)}, space="nas_bench_201")
    assert [stage.name for stage in stages] == ["stage_1", "stage_2"]
    assert len(make(ONE_STAGE, space="nas_bench_201")) == 1


def images():
    batch = Batch(jax.random.normal(jax.random.key(0), (6, 4, 4, 1)), jnp.arange(6) % 3)
    return Batches(batch, batch)


@functools.cache
def separate():
    """One stage in cycles of two epochs of the weights and one of the policy, after one of warming up."""
    changed = ONE_STAGE | {"mode": "separate", "cycle_epochs": (2, 1), "behaviour": "random"}
    (stage,) = make(changed, 7, "nas_bench_201")
    return stage.method, jax.jit(stage.method.step)


@pytest.mark.parametrize(("epoch", "policy"), [(0, False), (1, False), (2, False), (3, True), (4, False), (6, True)])
def test_weights_and_policy_learn_apart(epoch, policy):
    """A step of the separate mode changes either the weights or the policy, and leaves the other as it is."""
    method, step = separate()
    before = jax.jit(method.init)(jax.random.key(0))._replace(step=jnp.asarray(3 * epoch, jnp.int32))
    state = before
    for number in range(2):  # the first rewards are their own baseline, and may be equal
        state, _ = step(jax.random.key(number), state, images())

    def same(field):
        pairs = zip(*(jax.tree.leaves(getattr(each, field)) for each in (before, state)), strict=True)
        return all(np.array_equal(one, other) for one, other in pairs)

    assert same("params") == same("weights_state") == policy
    assert same("logits_state") == same("memory") == (not policy)


@pytest.mark.parametrize(("taken", "moves"), [(14, True), (15, False)])
def test_the_rate_falls_to_its_end_in_the_epochs_in_which_the_weights_learn(taken, moves):
    """One of warming up and four in cycles of three steps each: the sixteenth step would have the final rate, zero."""
    method, step = separate()
    state = jax.jit(method.init)(jax.random.key(0))
    state = state._replace(weights_state=optax.tree_utils.tree_set(state.weights_state, count=jnp.asarray(taken)))
    after, _ = step(jax.random.key(1), state, images())
    pairs = zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True)
    assert any(not np.array_equal(one, other) for one, other in pairs) == moves


def test_a_stage_keeps_the_most_probable_operations():
    """What was dropped stays out in later stages, also where a choice had fewer operations from the beginning."""
    changed = {"stage_layers": (), "stage_channels": (), "stage_operations": (5, 3)}
    first, second = make(changed, space="nas_bench_201")
    state = jax.jit(first.method.init)(jax.random.key(0))
    allowed = {part: mask.at[0, 2:].set(False) for part, mask in state.allowed.items()}  # two operations are left
    logits = {part: jax.random.normal(jax.random.key(1), values.shape) for part, values in state.logits.items()}
    state = state._replace(logits=logits, allowed=allowed)
    entered = second.enter(jax.random.key(2), state)
    expected = keep_strongest(state.visible, 3)
    for part, kept in entered.allowed.items():
        assert kept[0].tolist() == [True, True, *[False] * 3]
        np.testing.assert_array_equal(kept[1:], expected[part][1:])
    probabilities = second.method.probabilities(entered)
    for part, kept in entered.allowed.items():
        np.testing.assert_array_equal(np.asarray(probabilities[part]) > 0, kept)


CHAIN = product_space("chain", {"blocks": ("a", "b", "c")}, {"blocks": 2})
CELLS = cell_space(2, ("none", "skip_connect", "max_pool_3x3"))


def state_of(space, logits, code=None, reward=0.5):
    memory = no_experience(space, Learning(1))
    if code is not None:
        memory = memory._replace(best=Incumbent(code, jnp.asarray(reward)))
    allowed = {part: jnp.asarray(mask) for part, mask in space.allowed.items()}
    return SearchState(jnp.zeros((), jnp.int32), {}, (), logits, (), allowed, memory)


@pytest.mark.parametrize(
    ("selection", "code", "expected"),
    [
        ("argmax", [2, 2], [0, 1]),
        ("vote", [2, 2], [0, 1]),  # with chances of 84 % and 91 % a majority of 256 is certain
        ("best_sampled", [2, 2], [2, 2]),
        ("best_sampled", None, [0, 1]),  # nothing was sampled yet
    ],
)
def test_what_is_selected(selection, code, expected):
    logits = {"blocks": jnp.asarray([[2.0, 0.0, -1.0], [-0.5, 3.0, -3.0]])}
    best = None if code is None else {"blocks": jnp.asarray(code, jnp.int32)}
    state = state_of(CHAIN, logits, best)
    assert CHAIN.decode(selected_scores(selection, CHAIN)(state))["blocks"].tolist() == expected


def test_a_selected_cell_keeps_the_edges_that_the_policy_favours():
    """Of the operations of a code those come first that are most probable; where it has none, the most probable."""
    logits = {part: jax.random.normal(jax.random.key(0), shape) for part, shape in CELLS.shapes.items()}
    code = {"normal": jnp.asarray([1, 0, 2, 1, 2], jnp.int32), "reduce": jnp.asarray([1, 1, 0, 1, 0], jnp.int32)}
    found = CELLS.decode(selected_scores("best_sampled", CELLS)(state_of(CELLS, logits, code)))
    chances = jax.tree.map(lambda values: np.asarray(jax.nn.softmax(values)), logits)
    # Node 0 of the normal cell needs both of its edges, also the one whose code is none.
    other = 1 + int(np.argmax(chances["normal"][1, 1:]))
    assert found["normal"][:2].tolist() == [1, other]
    strength = [chances["normal"][edge, option] for edge, option in zip((2, 3, 4), (2, 1, 2), strict=True)]
    dropped = 2 + int(np.argmin(strength))
    expected = [0 if edge == dropped else int(code["normal"][edge]) for edge in (2, 3, 4)]
    assert found["normal"][2:].tolist() == expected
    chex.assert_trees_all_equal(CELLS.decode(encode(CELLS, found)), found)
