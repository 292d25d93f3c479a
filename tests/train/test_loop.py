import jax.numpy as jnp
import pytest

from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog
from jaxnas.train.loop import Cadence, Stopped, Surroundings, train
from jaxnas.train.parallel import Devices
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import Task, rehearse


def counting():
    """A task of 2 epochs of 3 steps that counts its steps."""
    return Task(
        name="counting",
        epochs=2,
        steps_per_epoch=3,
        devices=Devices(),
        branches=False,
        init=lambda key: jnp.zeros(()),
        begin_epoch=lambda key, epoch: epoch,
        step=lambda key, learner, data, order, position: (learner + 1, {"position": position * 1.0}),
        finish_epoch=lambda key, learner, data, epoch: (learner, {"learner": learner}),
    )


def run(folder, every_steps=0, signal=None):
    task, stop = counting(), StopRequest()
    stop.requested = signal
    with MetricLog(folder) as log, Checkpoints(folder / "checkpoints", keep=9) as checkpoints:
        around = Surroundings((0, 1), Cadence(every_steps, 1e9), log, stop)
        return train(task, rehearse(task, ()), (), around, checkpoints, 0).run


@pytest.mark.parametrize(("every_steps", "saved"), [(0, [6]), (1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (4, [4, 6])])
def test_states_are_saved_as_often_as_asked_and_at_the_end(tmp_path, every_steps, saved):
    state = run(tmp_path, every_steps)
    assert state.learner.tolist() == [6.0, 6.0]
    assert state.history["position"].tolist() == [[1.0, 1.0]] * 2
    assert state.history["learner"].tolist() == [[3.0, 6.0]] * 2
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
