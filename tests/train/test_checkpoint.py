import json
import random
import shutil
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.errors import UserError
from jaxnas.train import storage
from jaxnas.train.checkpoint import Checkpoints


class Learner(NamedTuple):
    params: dict
    optimizer: optax.OptState
    nothing: None
    empty: tuple


def make_state(seed=0):
    params = {"cell/0": {"w.x": jax.random.normal(jax.random.key(seed), (3, 4))}, "empty": {}, "b": jnp.zeros((0, 2))}
    return {
        "learner": Learner(params, optax.adam(1e-3).init(params), None, ()),
        "key": jax.random.key(seed),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), (2, 3)),
        "noise": jax.random.normal(jax.random.key(seed), (64, 64)),
        "half": jnp.arange(3, dtype=jnp.bfloat16) / 7,
        "codes": jnp.array([-128, 127], jnp.int8),
        "flags": jnp.array([True, False]),
        "step": jnp.int32(seed),
        "weak": jnp.asarray(0.1) * 3,
        "special": jnp.array([jnp.nan, -0.0, jnp.inf]),
        "a.b": jnp.ones(2),
        "a": {"b": jnp.ones(3)},
    }


def bits(tree):
    """Structure, types and bytes of a state."""
    raw = jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf, tree
    )
    types = [(leaf.dtype, leaf.shape, getattr(leaf, "weak_type", None)) for leaf in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), types, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(raw)]


def fill(directory, *steps):
    with Checkpoints(directory) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"name": f"step {step}"})


def abstract():
    return jax.eval_shape(make_state)


def test_everything_that_a_state_may_hold_comes_back_bit_for_bit(tmp_path):
    fill(tmp_path / "new" / "checkpoints", 3)
    for template in (abstract(), make_state(7)):
        restored = Checkpoints(tmp_path / "new" / "checkpoints").restore(template)
        assert restored is not None
        assert (restored.step, restored.metadata, restored.skipped) == (3, {"name": "step 3"}, ())
        assert bits(restored.state) == bits(make_state(3))


def test_a_state_without_any_leaf(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": {}}, {})
    restored = Checkpoints(tmp_path).restore({"a": {}})
    assert restored is not None
    assert (restored.step, restored.state) == (1, {"a": {}})


def test_an_empty_directory_has_nothing_to_restore(tmp_path):
    for directory in (tmp_path, tmp_path / "missing"):
        checkpoints = Checkpoints(directory)
        checkpoints.wait()
        assert checkpoints.restore(abstract()) is None
        assert checkpoints.latest_step() is None
        assert checkpoints.latest_metadata() is None
    assert not (tmp_path / "missing").exists()


def test_a_restored_state_compiles_nothing_again_and_can_be_donated(tmp_path):
    traces = []

    def advance(state):
        traces.append(state)
        return state | {"step": state["step"] + 1}

    program = jax.jit(advance, donate_argnums=0)
    fill(tmp_path, 1)
    program(make_state(1))
    assert (len(traces), program._cache_size()) == (1, 1)
    restored = Checkpoints(tmp_path).restore(abstract())
    assert restored is not None
    assert all(not leaf.committed for leaf in jax.tree.leaves(restored.state))
    assert int(program(restored.state)["step"]) == 2
    assert (len(traces), program._cache_size()) == (1, 1)
    assert restored.state["step"].is_deleted()


def test_the_caller_may_overwrite_the_buffers_as_soon_as_save_returns(tmp_path):
    overwrite = jax.jit(lambda x: 0 * x - 1, donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            x = jnp.arange(300_000, dtype=jnp.float32) + step
            address = x.unsafe_buffer_pointer()
            checkpoints.save(step, {"x": x}, {})
            y = overwrite(x)
            assert x.is_deleted()
            assert y.unsafe_buffer_pointer() == address  # really the same memory, while it may still be written out
            np.testing.assert_array_equal(y, -1)
            restored = checkpoints.restore({"x": y})
            assert restored is not None
            assert restored.step == step
            np.testing.assert_array_equal(restored.state["x"], np.arange(300_000, dtype=np.float32) + step)


@pytest.mark.parametrize(
    ("scores", "keep", "kept"),
    [
        ([None, None, None, None], 2, {2, 3}),
        ([None, None, None, None], 1, {3}),
        ([0.1, 0.9, 0.3, 0.2], 2, {1, 2, 3}),
        ([0.1, 0.9, 0.9, 0.2, 0.3], 2, {2, 3, 4}),
        ([0.5, None, float("nan"), float("inf"), 0.4], 1, {0, 4}),
        ([-3.0, -1.0, -2.0, -4.0], 1, {1, 3}),
    ],
)
@pytest.mark.parametrize("processes", ["one", "many"])
def test_the_latest_and_the_best_are_kept(tmp_path, scores, keep, kept, processes):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step, score in enumerate(scores):
        if processes == "many":
            with Checkpoints(tmp_path, keep=keep) as checkpoints:
                checkpoints.save(step, {"x": jnp.int32(step)}, {}, score)
        else:
            checkpoints.save(step, {"x": jnp.int32(step)}, {}, score)
    with checkpoints:
        checkpoints.wait()
    assert {int(path.name) for path in tmp_path.iterdir()} == kept
    assert checkpoints.latest_step() == max(kept)


@pytest.mark.parametrize("step", [4, 5])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_save_that_would_be_dropped_is_refused(tmp_path, step, reopened):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, make_state(5), {"n": 1})
        with pytest.raises(UserError, match=rf"step {step} cannot be saved: .* already holds step 5"):
            (Checkpoints(tmp_path) if reopened and not checkpoints.wait() else checkpoints).save(step, make_state(), {})
    assert checkpoints.latest_metadata() == {"n": 1}


def test_a_save_that_orbax_declines_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "start_save", lambda *_: False)
    with pytest.raises(UserError, match="step 1 was not saved"):
        Checkpoints(tmp_path).save(1, make_state(), {})


def _largest(directory):
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _swap_arrays(step_directory):
    """Arrays that load without complaint, but are not those of this step."""
    shutil.rmtree(step_directory / "state")
    shutil.copytree(step_directory.parent / "1" / "state", step_directory / "state")


DAMAGES = {
    "arrays cut short": lambda step: _truncate(_largest(step / "state")),
    "array bytes flipped": lambda step: _flip(_largest(step / "state")),
    "other arrays": _swap_arrays,
    "arrays missing": lambda step: shutil.rmtree(step / "state"),
    "array index cut short": lambda step: _truncate(step / "state" / "manifest.ocdbt"),
    "metadata cut short": lambda step: _truncate(step / "meta" / "metadata"),
    "metadata flipped": lambda step: _flip(step / "meta" / "metadata"),
    "metadata missing": lambda step: shutil.rmtree(step / "meta"),
    "metadata empty": lambda step: (step / "meta" / "metadata").write_text("{}"),
    "everything missing": lambda step: [shutil.rmtree(step), step.mkdir()],
    "a file in its place": lambda step: [shutil.rmtree(step), step.write_text("")],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(tmp_path, damage):
    fill(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(abstract())
        assert restored is not None
        assert restored.step == 1
        assert bits(restored.state) == bits(make_state(1))
        (sentence,) = restored.skipped
        assert sentence.startswith("the checkpoint of step 2 is damaged (")
        assert sentence.endswith("step 1 is used instead.")
        checkpoints.save(2, make_state(22), {"name": "again"})
    again = Checkpoints(tmp_path).restore(abstract())
    assert again is not None
    assert (again.step, again.metadata, again.skipped) == (2, {"name": "again"}, ())
    assert bits(again.state) == bits(make_state(22))


def test_only_the_checksum_knows_that_these_arrays_are_wrong(tmp_path):
    fill(tmp_path, 1, 2)
    _swap_arrays(tmp_path / "2")
    restored = Checkpoints(tmp_path).restore(abstract())
    assert restored is not None
    assert "its arrays do not match their checksum" in restored.skipped[0]


def test_a_manager_that_is_open_can_save_a_damaged_step_again(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_state(step), {})
        checkpoints.wait()
        _flip(_largest(tmp_path / "2" / "state"))
        restored = checkpoints.restore(abstract())
        assert restored is not None
        assert restored.step == 1
        checkpoints.save(2, make_state(2), {"again": True})
        checkpoints.wait()
        assert checkpoints.latest_metadata() == {"again": True}


@pytest.mark.parametrize("damage", ["arrays cut short", "metadata flipped", "everything missing"])
def test_damage_to_an_old_checkpoint_does_not_stop_a_save(tmp_path, damage):
    fill(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / "1")
    fill(tmp_path, 3)
    restored = Checkpoints(tmp_path).restore(abstract())
    assert restored is not None
    assert (restored.step, restored.skipped) == (3, ())


def test_when_all_are_damaged_the_run_does_not_start_again_in_silence(tmp_path):
    fill(tmp_path, 1, 2)
    for step in ("1", "2"):
        _flip(_largest(tmp_path / step / "state"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"no checkpoint in .* can be used \(step 2: .*; step 1: .*\); put"):
            Checkpoints(tmp_path).restore(abstract())


def test_metadata_are_read_alone_and_damaged_ones_passed_over(tmp_path):
    fill(tmp_path, 1, 2)
    shutil.rmtree(tmp_path / "2" / "state")
    assert Checkpoints(tmp_path).latest_metadata() == {"name": "step 2"}
    _flip(tmp_path / "2" / "meta" / "metadata")
    assert Checkpoints(tmp_path).latest_metadata() == {"name": "step 1"}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (lambda: {"x": jnp.zeros(3), "n": jnp.int32(0)}, r"state\['x'\] is float32\(2,\) there and float32\(3,\) in"),
        (lambda: {"x": jnp.zeros(2, int), "n": jnp.int32(0)}, r"float32\(2,\) there and int32\(2,\) in"),
        (lambda: {"x": jnp.zeros(2)}, r"state\['n'\] is int32\(\) there and missing in"),
        (
            lambda: {"x": jnp.zeros(2), "n": jnp.int32(0), "k": jax.random.key(0)},
            r"is missing there and key<fry>\(\) in",
        ),
    ],
)
def test_another_state_is_refused_and_nothing_is_moved(tmp_path, template, message):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(2), "n": jnp.int32(4)}, {})
    with pytest.raises(UserError, match=message):
        Checkpoints(tmp_path).restore(jax.eval_shape(template))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_stays(tmp_path, largest_file, capfd):
    small, large = {"x": jnp.ones(3)}, {"x": jax.random.normal(jax.random.key(0), (500_000,))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small, {"n": 1})
        checkpoints.wait()
        with largest_file(1_000_000), pytest.raises(UserError, match=r"cannot be written in .*: file too large; the e"):
            checkpoints.save(2, large, {"n": 2})
            checkpoints.wait()
        checkpoints.wait()  # reported once
        assert checkpoints.latest_step() == 1
        restored = checkpoints.restore(small)
        assert restored is not None
        assert (restored.step, restored.metadata, restored.skipped) == (1, {"n": 1}, ())
        checkpoints.save(2, small, {"n": 3})
        checkpoints.wait()
        assert checkpoints.latest_metadata() == {"n": 3}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("then", ["save", "leave"])
def test_a_failed_save_is_reported_by_the_next_one_or_on_leaving(tmp_path, largest_file, then):
    large = {"x": jax.random.normal(jax.random.key(0), (500_000,))}
    with (
        largest_file(1_000_000),
        pytest.raises(UserError, match="file too large"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(1, large, {})
        if then == "save":
            checkpoints.save(2, {"x": jnp.ones(3)}, {})
            pytest.fail("the failure of the first save was lost")


def test_an_error_of_the_block_is_not_hidden_by_one_of_the_save(tmp_path, largest_file):
    large = {"x": jax.random.normal(jax.random.key(0), (500_000,))}
    with pytest.raises(KeyError), largest_file(1_000_000), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, large, {})
        raise KeyError


SAVER = """
import sys
import jax, jax.numpy as jnp
from jaxnas.train.checkpoint import Checkpoints

def make(step):
    return {"x": jnp.full((20_000,), step, jnp.float32), "step": jnp.int32(step), "key": jax.random.key(0)}

with Checkpoints(sys.argv[1]) as checkpoints:
    restored = checkpoints.restore(jax.eval_shape(lambda: make(0)))
    step = restored.step if restored else 0
    while True:
        step += 1
        checkpoints.save(step, make(step), {"step": step}, score=-step)
        print(checkpoints.latest_step(), flush=True)
"""


def test_a_kill_during_saves_leaves_a_usable_checkpoint(tmp_path, start):
    template = {"x": jnp.zeros(20_000), "step": jnp.int32(0), "key": jax.random.key(0)}
    moments = random.Random(0)
    processes = {name: start(SAVER, tmp_path / name) for name in "abc"}
    for name, process in processes.items():
        seen = [next(line for line in process.stdout if line != "None\n")]
        time.sleep(moments.uniform(0.0, 0.3))
        process.kill()
        seen += [line for line in process.stdout if line.endswith("\n")]
        process.wait()
        with Checkpoints(tmp_path / name) as checkpoints:
            restored = checkpoints.restore(template)
            assert restored is not None
            assert restored.skipped == ()
            assert restored.step >= int(seen[-1])
            assert restored.metadata == {"step": restored.step}
            assert int(restored.state["step"]) == restored.step
            np.testing.assert_array_equal(restored.state["x"], restored.step)
            checkpoints.save(restored.step + 1, restored.state, {})
        assert not list((tmp_path / name).glob("*tmp*"))


def test_the_files_say_what_they_hold(tmp_path):
    fill(tmp_path, 1)
    content = json.loads(json.loads((tmp_path / "1" / "meta" / "metadata").read_text())["text"])
    assert ["state['learner'].params['cell/0']['w.x']", "float32", [3, 4]] in content["layout"]
    assert ["state['key']", "key<fry>", []] in content["layout"]
    assert len(content["sha256"]) == 64
