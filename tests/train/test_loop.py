import jax.numpy as jnp
import pytest

from jaxnas.core.errors import Stopped
from jaxnas.core.types import Averaged
from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog
from jaxnas.train.loop import Cadence, Surroundings, train
from jaxnas.train.parallel import Devices
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import Task, rehearse


def counting(ended=None):
    """A task of 2 epochs of 3 steps that counts its steps, from where the task before it ended.

    Its metric "even" is the position in the epoch, of even positions alone; "never" is of none.
    """

    def step(key, learner, data, order, position):
        value = position * 1.0
        even, never = (Averaged(flag * value, flag * 1.0) for flag in (position % 2 == 0, position < 0))
        return learner + 1, {"position": value, "even": even, "never": never}

    return Task(
        name="counting",
        epochs=2,
        steps_per_epoch=3,
        devices=Devices(),
        branches=False,
        init=lambda key, before: jnp.zeros(()) + (0.0 if isinstance(before, tuple) else before),
        begin_epoch=lambda key, epoch: epoch,
        step=step,
        finish_epoch=lambda key, learner, data, epoch: (learner, {"learner": learner}),
        ended=ended,
    )


def run(folder, every_steps=0, signal=None, before=(), ended=None):
    task, stop = counting(ended), StopRequest()
    stop.requested = signal
    with MetricLog(folder) as log, Checkpoints(folder / "checkpoints", keep=9) as checkpoints:
        around = Surroundings((0, 1), Cadence(every_steps, 1e9), log, stop)
        one = before[0] if len(before) else ()
        return train(task, rehearse(task, (), one), (), around, checkpoints, 0, before).run


@pytest.mark.parametrize(("every_steps", "saved"), [(0, [6]), (1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (4, [4, 6])])
def test_states_are_saved_as_often_as_asked_and_at_the_end(tmp_path, every_steps, saved):
    state = run(tmp_path, every_steps)
    assert state.learner.tolist() == [6.0, 6.0]
    assert state.history["position"].tolist() == [[1.0, 1.0]] * 2
    assert state.history["learner"].tolist() == [[3.0, 6.0]] * 2
    assert state.history["even"].tolist() == [[1.0, 1.0]] * 2  # the mean of 0 and 2
    assert jnp.all(jnp.isnan(state.history["never"]))
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == saved


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_stop_requested_before_a_task_began_is_answered_without_compiling_it(tmp_path, monkeypatch, signal):
    monkeypatch.setattr("jaxnas.train.loop.compile_task", lambda *_: pytest.fail("it compiled"))
    with pytest.raises(Stopped, match=f"{signal}: stopped in counting at step 0 of 6, saved") as stopped:
        run(tmp_path, signal=signal)
    assert stopped.value.signal == signal
    assert not (tmp_path / "checkpoints").exists()


def test_a_finished_task_is_neither_compiled_nor_stopped(tmp_path, monkeypatch):
    expected = run(tmp_path)
    monkeypatch.setattr("jaxnas.train.loop.compile_task", lambda *_: pytest.fail("it compiled"))
    again = run(tmp_path, signal="SIGTERM")
    assert again.learner.tolist() == expected.learner.tolist()
    assert again.step.tolist() == [6, 6]


def test_a_task_continues_another_seed_by_seed(tmp_path):
    assert run(tmp_path, before=jnp.asarray([10.0, 20.0])).learner.tolist() == [16.0, 26.0]


def test_a_task_ends_early_when_every_seed_has_ended(tmp_path, monkeypatch):
    """After an epoch, never within one; its history has the epochs that there were, and it stays ended."""
    for folder in ("both", "early"):
        (tmp_path / folder).mkdir()
    before = jnp.asarray([0.0, -3.0])  # the second seed reaches 3 an epoch later
    both = run(tmp_path / "both", before=before, ended=lambda learner: learner >= 3)
    assert both.learner.tolist() == [6.0, 3.0]
    early = run(tmp_path / "early", ended=lambda learner: learner >= 2)
    assert early.learner.tolist() == [3.0, 3.0]
    assert early.history["learner"].tolist() == [[3.0], [3.0]]
    monkeypatch.setattr("jaxnas.train.loop.compile_task", lambda *_: pytest.fail("it compiled"))
    again = run(tmp_path / "early", ended=lambda learner: learner >= 2)
    assert again.history["learner"].tolist() == [[3.0], [3.0]]
