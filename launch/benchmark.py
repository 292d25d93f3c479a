"""Measures the speed of the project's programs on this machine and prints it as ratios from one run.

Suites: supernet (the DARTS search network: cells, weight steps, architecture steps; about ten minutes on a CPU) and lab
(the estimators of gradients through signs, against what they replace; about two minutes).
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
    from jaxnas.train.workdir import write_json, write_text

    suites = {"supernet": (lambda: supernet_suite(sizes), show), "lab": (lab_suite, show_lab)}
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


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    flags = {
        "suite": Flag("what to measure", "supernet"),
        "batch_sizes": Flag("examples per step, separated by commas", "16,64"),
        "output": Flag("a JSON file to write the figures to", ""),
    }
    sys.exit(main(run, description=__doc__ or "", flags=flags, config=False))
