"""Architectures of every family are trained and tested by themselves, those that read smaller images, too."""

import math

import jax
import pytest

from configs.search import common, spaces
from jaxnas.experiment import Session, train_architecture
from jaxnas.plan import plan
from jaxnas.spaces.space import random
from jaxnas.train.logging import MetricLog
from jaxnas.train.signals import StopRequest
from jaxnas.train.workdir import ENTRIES, prepare
from tests.tiny_run import write_data

STAGES = {"stem": 4, "widths": (4,), "depths": (2,), "strides": (2,), "head": 4}
SUPERKERNEL = {**spaces.FBNET_V2_8, **STAGES, "kernels": (1, 3), "expansions": (1, 2), "width_fractions": (0.5, 1.0)}
SPACES = {
    "two cells": {**spaces.DARTS_8, "channels": 2, "layers": 1, "nodes": 1},
    "chain": {**spaces.NAS_BENCH_MACRO_8, **STAGES, "candidates": ("identity", "mbconv_k3_e3")},
    "superkernel on smaller images": {**SUPERKERNEL, "resolutions": (2, 4)},
}


@pytest.mark.parametrize("name", SPACES)
def test_an_architecture_is_trained_and_tested(name, tmp_path):
    config = common.digits(SPACES[name])
    config.method = common.random_search(1)
    config.update({"epochs": 1, "batch_size": 4, "devices": 2, "synchronize_statistics": True})
    config.data.name, config.data.path = "npz", str(write_data(tmp_path / "data.npz"))
    config.retrain.update({"epochs": 1, "batch_size": 8})
    if "channels" in config.retrain:
        config.retrain.update({"channels": 2, "layers": 1})
    made = plan(config)
    architecture = random(made.space, jax.random.key(0))
    if "resolution" in architecture:
        architecture = {**architecture, "resolution": 0 * architecture["resolution"]}
    with prepare(tmp_path / "run", **ENTRIES) as folder, MetricLog(folder.path) as log, StopRequest() as stop:
        trained = train_architecture(Session(made, folder, log, stop), architecture, 0, "alone")
    assert trained.entry["architecture"] == made.space.canonical(architecture)
    assert trained.entry["retrained_accuracy"] in [pytest.approx(right / 12) for right in range(13)]
    assert len(trained.history["loss"]) == 1 and math.isfinite(trained.history["loss"][0])
