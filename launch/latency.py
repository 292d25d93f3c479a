"""Measures the pieces of a space's networks on this machine, writes them as a latency table and checks its predictions.

The table is what --config.cost.table names in a search whose --config.cost.name is latency. The networks are those that
a config of the space trains at the end, for images of 10 classes. A piece takes about a second; whole networks, which
tell what the pieces leave out and how well they predict, take up to a minute each.
"""

import sys
from pathlib import Path
from typing import Any


def run(
    space: str, device: str, output: str, image_size: str, channels: str, batch_size: str, repeats: str, check: str
) -> None:
    """Measures, writes the table where `output` says, and prints it with the error of its predictions."""
    size, batch, times = number("image_size", image_size), number("batch_size", batch_size), number("repeats", repeats)
    depth, checked = number("channels", channels), number("check", check, 2) if check != "0" else 0
    import jax

    from jaxnas.core.errors import UserError
    from jaxnas.costs.latency import latency_cost, write_latency_table
    from jaxnas.costs.timing import check_prediction, measure_latency
    from jaxnas.networks.family import Images

    family = build(space, images := Images(size, size, depth, classes=10))
    try:
        jax.config.update("jax_platforms", device)
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where the plugin of a known platform is missing
        jax.config.update("jax_platforms", None)
        raise UserError(f"JAX cannot start on --device={device} here; it can on {jax.default_backend()}.") from error
    if not Path(output).resolve().parent.is_dir():  # now rather than after minutes
        raise UserError(f"--output is {output!r}, but there is no such folder.")
    table = measure_latency(family, images, jax.random.key(0), batch_size=batch, repeats=times)
    write_latency_table(output, table)
    cost = latency_cost(family, images, table)
    check_key, options = jax.random.key(1), {"batch_size": batch, "repeats": times}
    show(table, check_prediction(family, images, cost, checked, check_key, **options) if checked else None)


def number(name: str, text: str, least: int = 1) -> int:
    """A flag's whole number; raises UserError for anything else."""
    from jaxnas.core.errors import UserError

    if not text.isdecimal() or int(text) < least:
        raise UserError(f"--{name} is {text!r}, but has to be a whole number of at least {least}.")
    return int(text)


def build(name: str, images: Any) -> Any:
    """The family with the settings that `configs.search` has for a space; raises UserError for an unknown name."""
    from configs.search import common, spaces
    from jaxnas.core.errors import choose
    from jaxnas.networks.families import FAMILIES, settings_of

    known = {key.lower(): value for key, value in vars(spaces).items() if isinstance(value, dict) and "name" in value}
    settings = choose("space", name, known)
    config: Any = (common.digits if name.endswith("_8") else common.cifar10)(settings)
    given = settings | {f"retrain_{key}": value for key, value in config.retrain.items()}
    builder = FAMILIES[settings["name"]]
    return builder(images, **{key: given[key] for key in settings_of(builder)})


def show(table: Any, found: Any) -> None:
    """Prints the table, and how well it predicts whole networks unless `found` is None."""
    from rich.console import Console
    from rich.table import Table

    about = table.about
    title = f"{about['family']}, {about['device']}, batch {about['batch_size']}, jax {about['jax']}"
    printed = Table("component", "ms", "spread", title=title)
    for name, timing in table.rows.items():
        printed.add_row(name, f"{timing.milliseconds:.4g}", f"{timing.spread:.2g}")
    Console(width=120).print(printed)
    if found:
        count, ranks = len(found.measured), f"Spearman {found.spearman:.2f}, Kendall {found.kendall:.2f}"
        print(
            f"{count} random networks: mean error {found.error:.1%}, bias {found.bias:+.1%}; rank correlation {ranks}"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import Flag, main

    flags = {
        "space": Flag("a space of configs/search/spaces.py, such as proxylessnas_32"),
        "device": Flag("the platform to measure on, as JAX names it: cpu, gpu or tpu"),
        "output": Flag("the CSV file to write"),
        "image_size": Flag("height and width of the images in pixels", "32"),
        "channels": Flag("of the images", "3"),
        "batch_size": Flag("images at once", "1"),
        "repeats": Flag("how often everything is timed", "10"),
        "check": Flag("random networks to compare with what the table predicts, 0 or at least 2", "8"),
    }
    sys.exit(main(run, description=__doc__ or "", flags=flags, config=False))
