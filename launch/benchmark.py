"""Measures the speed of the project's programs on this machine and prints it as ratios from one run.

Suites: supernet (the DARTS search network: cells, weight steps, architecture steps; about ten minutes on a CPU), lab
(the estimators of gradients through signs, against what they replace; about two minutes), methods (a step of every
search method against a step of training one network of its space; about forty minutes), sampling (drawing, changing,
pricing and judging architectures, and searches in tables; about five minutes), train (training WRN-28-10, a network
of twenty cells and the XNOR-ResNet18, and substitute layers; about fifteen minutes) and elastic (subnets of an elastic
network, masked and by themselves, and evolution over predictions; about ten minutes).
"""

import sys
import tempfile
from pathlib import Path


def run(suite: str, batch_sizes: str, output: str) -> None:
    """Runs a suite, prints its table, and writes the figures as JSON where `output` says."""
    import jax

    from configs.evaluate import common
    from configs.search import spaces
    from configs.search.methods import search_configs
    from jaxnas.architecture_speed import architecture_suite
    from jaxnas.core.errors import UserError, choose
    from jaxnas.elastic_speed import elastic_suite
    from jaxnas.evaluate.lab.speed import lab_suite
    from jaxnas.evaluate.speed import supernet_suite
    from jaxnas.method_speed import methods_suite
    from jaxnas.report import terminal
    from jaxnas.sampling_speed import tabular_speed
    from jaxnas.train.workdir import write_json, write_text
    from jaxnas.training_speed import train_suite

    trained = {
        "WRN-28-10": common.wide_resnet(),
        "DARTS_V2, C = 36, 20 cells": common.cells("DARTS_V2"),
        "XNOR-ResNet18, width 96": common.xnor_resnet18(),
    }
    suites = {
        "supernet": (lambda: supernet_suite(sizes), terminal.show_supernet),
        "lab": (lab_suite, terminal.show_lab),
        "sampling": (
            lambda: architecture_suite(spaces.DARTS, spaces.NAS_BENCH_MACRO, sizes[0]) | {"tabular": tabular_speed()},
            terminal.show_sampling,
        ),
        "train": (lambda: train_suite(trained, sizes[0]), terminal.show_train),
        "elastic": (lambda: elastic_suite(spaces.ELASTIC_32, sizes[0]), terminal.show_elastic),
        "methods": (lambda: methods_suite(search_configs(), sizes[0]), terminal.show_methods),
    }
    measure, table = choose("suite", suite, suites)
    try:
        sizes = [int(size) for size in batch_sizes.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise UserError(f"--batch_sizes is {batch_sizes!r}, but has to look like 16,64.")
    if output:
        write_text(output, "{}\n")  # fails now rather than after ten minutes
    with tempfile.TemporaryDirectory() as cache:  # empty: the first compilation is a cold one
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        figures = measure()
    figures |= {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    table(figures)
    if output:
        write_json(output, figures)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    flags = {
        "suite": Flag("what to measure", "supernet"),
        "batch_sizes": Flag("examples per step, separated by commas", "16,64"),
        "output": Flag("a JSON file to write the figures to", ""),
    }
    sys.exit(main(run, description=__doc__ or "", flags=flags, config=False))
