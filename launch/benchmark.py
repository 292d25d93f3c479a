"""Measures the speed of the project's programs on this machine and prints it as ratios from one run.

Suites: supernet (the DARTS search network: cells, weight steps, architecture steps; about ten minutes on a CPU), lab
(the estimators of gradients through signs, against what they replace; about two minutes) and methods (a step of every
search method against a step of training one network of its space; about half an hour).
"""

import sys
import tempfile
from pathlib import Path
from typing import Any


def run(suite: str, batch_sizes: str, output: str) -> None:
    """Runs a suite, prints its table, and writes the figures as JSON where `output` says."""
    import jax

    from jaxnas.core.errors import UserError, choose
    from jaxnas.evaluate.lab.speed import lab_suite
    from jaxnas.evaluate.speed import supernet_suite
    from jaxnas.method_speed import methods_suite
    from jaxnas.train.workdir import write_json, write_text

    suites = {
        "supernet": (lambda: supernet_suite(sizes), show),
        "lab": (lab_suite, show_lab),
        "methods": (lambda: methods_suite(search_configs(), sizes[0]), show_methods),
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


def show(figures: dict[str, Any]) -> None:
    """Prints the figures of the supernet suite."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{figures['device']}, jax {figures['jax']}, {figures['matrix_product_gflops']:.0f} GFLOP/s")
    for column in ("", "s/step", "spread", "ms/image", "% of matmul", "trace s", "compile s", "cached s", "temp MB"):
        table.add_column(column, justify="right" if column else "left")
    for row in [*figures["cells"], *figures["steps"]]:
        share = row.get("share_of_matrix_product")
        table.add_row(
            row["name"],
            f"{row['call']:.3f}",
            f"{row['spread']:.2f}",
            f"{1e3 * row['per_image']:.1f}" if "per_image" in row else "",
            f"{share:.1%}" if share else "",
            *(f"{row[name]:.1f}" for name in ("trace", "compile", "compile_cached")),
            f"{row['temp_bytes'] / 1e6:.0f}",
        )
    console = Console(width=140)
    console.print(table)
    console.print(f"one cell: fast evaluation {figures['cell_speedup']:.1f} × the plain one")
    ratios = ", ".join(f"{ratio:.2f}" for ratio in figures["single_path_over_mixture"])
    console.print(f"a call into the search loop: {figures['call_overhead_share']:.3%} of its time is overhead")
    console.print(f"weight step: single path {ratios} of the mixture")


def show_lab(figures: dict[str, Any]) -> None:
    """Prints the figures of the lab suite."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{figures['device']}, jax {figures['jax']}, {figures['matrix_product_gflops']:.0f} GFLOP/s")
    for column in ("", "seconds", "against", "seconds", "ratio", "aim"):
        table.add_column(column, justify="left" if column in ("", "against") else "right")
    for row in figures["rows"]:
        cells = row["name"], f"{row['seconds']:.3f}", row["compared_with"], f"{row['other_seconds']:.3f}"
        table.add_row(*cells, f"{row['ratio']:,.2f}", f"{row['target']:,.2f}")
    Console(width=120).print(table)


def search_configs() -> dict[str, Any]:
    """Every method on two cells or on a chain, at sizes for images of 32×32."""
    from configs.search import common, spaces

    def on(space: dict[str, Any], method: Any, **settings: Any) -> Any:
        config = common.cifar10(space)
        config.method = method
        config.method.update(settings)
        config.epochs = 75
        return config

    cells, macro = spaces.DARTS, spaces.NAS_BENCH_MACRO
    found = {
        "darts": on(cells, common.darts(order=1)),
        "darts, second order": on(cells, common.darts(order=2)),
        "pc_darts": on(cells, common.pc_darts()),
        "p_darts": on(cells, common.p_darts()),
        "gdas": on(cells, common.gdas()),
        "snas": on(cells, common.snas()),
        "dsnas": on(cells, common.dsnas()),
        "random": on(cells, common.random_search(candidates=25)),
    }
    methods = {
        "darts": common.darts(order=1),
        "gdas": common.gdas(),
        "snas": common.snas(),
        "dsnas": common.dsnas(),
        "proxylessnas, full": common.proxylessnas(),
        "proxylessnas, two paths": common.proxylessnas(),
        "fbnet": common.fbnet(),
        "mdenas": common.mdenas(),
        "random": common.random_search(candidates=25),
    }
    own = {"proxylessnas, full": {"gates": "full", "every": 1}, "proxylessnas, two paths": {"every": 1}}
    for name, method in methods.items():
        found[f"{name} on a chain"] = on(macro, method, **own.get(name, {}))
    return found


def show_methods(figures: dict[str, Any]) -> None:
    """Prints the figures of the methods suite."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=140)
    for space, derived in figures["derived"].items():
        table = Table(title=f"{space}, batch {figures['batch_size']}, {figures['device']}, jax {figures['jax']}")
        for column in ("", "s/step", "× one network", "spread", "MB", "× one network", "compile s", "cached s"):
            table.add_column(column, justify="right" if column else "left")
        own = {**derived, "ratio": 1.0, "memory_ratio": 1.0}
        for row in [own, *(row for row in figures["rows"] if row["space"] == space)]:
            table.add_row(
                row["name"],
                f"{row['step']:.3f}",
                f"{row['ratio']:.2f}",
                f"{row['spread']:.2f}",
                f"{row['memory'] / 1e6:.0f}",
                f"{row['memory_ratio']:.2f}",
                f"{row['compile']:.1f}",
                f"{row['compile_cached']:.1f}",
            )
        console.print(table)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    flags = {
        "suite": Flag("what to measure", "supernet"),
        "batch_sizes": Flag("examples per step, separated by commas", "16,64"),
        "output": Flag("a JSON file to write the figures to", ""),
    }
    sys.exit(main(run, description=__doc__ or "", flags=flags, config=False))
