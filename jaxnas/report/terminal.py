"""The figures of the benchmarks as tables in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table


def show_supernet(figures: dict[str, Any]) -> None:
    """Prints the figures of the supernet suite."""
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
    table = Table(title=f"{figures['device']}, jax {figures['jax']}, {figures['matrix_product_gflops']:.0f} GFLOP/s")
    for column in ("", "seconds", "against", "seconds", "ratio", "aim"):
        table.add_column(column, justify="left" if column in ("", "against") else "right")
    for row in figures["rows"]:
        cells = row["name"], f"{row['seconds']:.3f}", row["compared_with"], f"{row['other_seconds']:.3f}"
        table.add_row(*cells, f"{row['ratio']:,.2f}", f"{row['target']:,.2f}")
    Console(width=120).print(table)


def show_methods(figures: dict[str, Any]) -> None:
    """Prints the figures of the methods suite."""
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


def show_train(figures: dict[str, Any]) -> None:
    """Prints the figures of the train suite."""
    console = Console(width=140)
    title = f"batch {figures['batch_size']}, {figures['device']}, jax {figures['jax']}"
    table = Table(title=f"{title}, matrix product {figures['matrix_product_gflops']:.0f} GFLOP/s")
    for column in ("", "s/step", "images/s", "% of matmul", "spread", "MB", "compile s", "cached s"):
        table.add_column(column, justify="right" if column else "left")
    for row in figures["networks"]:
        cells = [f"{row['step']:.3f}", f"{row['images']:.1f}", f"{row['share']:.1%}", f"{row['spread']:.2f}"]
        cells += [f"{row['memory'] / 1e6:.0f}", f"{row['compile']:.1f}", f"{row['compile_cached']:.1f}"]
        table.add_row(row["name"], *cells)
    console.print(table)
    table = Table(title="a layer, forward and backward")
    for column in ("", "parameters", "× the dense layer"):
        table.add_column(column, justify="right" if column else "left")
    for row in figures["layers"]:
        table.add_row(row["name"], f"{row['params']:,}", f"{row['ratio']:.2f}")
    console.print(table)


def show_elastic(figures: dict[str, Any]) -> None:
    """Prints the figures of the elastic suite."""
    console = Console(width=120)
    table = Table(title=f"a step, batch {figures['batch_size']}, {figures['device']}, jax {figures['jax']}")
    for column in ("", "s/step", "× the largest, masked", "compile s", "cached s"):
        table.add_column(column, justify="right" if column else "left")
    for row in figures["rows"]:
        compiling = [f"{row[name]:.1f}" if row[name] else "" for name in ("compile", "compile_cached")]
        table.add_row(row["name"], f"{row['call']:.3f}", f"{row['ratio']:.2f}", *compiling)
    console.print(table)
    console.print(
        f"{figures['switches']} other subnets: traced {figures['traces']} time(s) in all, the slowest first step "
        f"{figures['switch']:.2f} × the largest's"
    )
    console.print(
        f"evolution over predictions: {figures['candidates_per_second']:,.0f} candidates a second (aim 10,000)"
    )


def show_sampling(figures: dict[str, Any]) -> None:
    """Prints the figures of the sampling suite."""
    table = Table(title=f"{figures['device']}, jax {figures['jax']}, batch {figures['batch_size']}")
    for column in ("", "", "aim"):
        table.add_column(column, justify="right" if table.columns else "left")
    for name, rate in figures["rates"].items():
        table.add_row(f"{name}: architectures of two cells a second", f"{rate:,.0f}", "1,000,000")
    judging, deciding, tabular = (figures[name] for name in ("judging", "deciding", "tabular"))
    table.add_row(f"judging {figures['population']} candidates, × one by one", f"{judging['ratio']:.2f}", "1.30")
    for name in ("evolution", "reinforce"):
        share = deciding[name] / deciding["step"]
        table.add_row(f"{name}: a round without judging, of a weight step", f"{share:.1%}", "10 %")
    table.add_row("tabular REINFORCE: updates a second", f"{tabular['search']:,.0f}", "")
    table.add_row("the same, × a loop in NumPy", f"{tabular['times_numpy']:,.0f}", "100")
    table.add_row("the same, × a loop of compiled updates", f"{tabular['times_jitted']:,.0f}", "")
    Console(width=120).print(table)
