"""The networks that the config of an evaluation describes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.limits import Config
from jaxnas.networks.catalogue import CELLS, NETWORKS
from jaxnas.networks.family import Images
from jaxnas.networks.substituted import SubstitutedNetwork, substituted
from jaxnas.plan import hashable
from jaxnas.spaces.genotype import format_genotype, parse_genotype
from jaxnas.train.parallel import Devices
from jaxnas.train.workdir import read_json

DENSE = "none"  # the kind of substitute that replaces nothing


def images_of(config: Config, devices: Devices | None = None) -> Images:
    """What the config's networks read; devices: those that share a batch, None for one."""
    axis_name = devices.axis_name if devices and config.synchronize_statistics else None
    size = config.images.size
    return Images(size, size, config.images.channels, config.images.classes, axis_name)


def build_network(config: Mapping[str, Any], images: Images, text: str) -> nn.Module:
    """The network that a config (or its plain values) describes, with its substitutes; text: of its architecture."""
    settings = {name: hashable(value) for name, value in config["network"].items() if name != "name"}
    network = NETWORKS[config["network"]["name"]].build(images, text, **settings)
    substitute = config["substitute"]
    if substitute["kind"] == DENSE:
        return network
    if isinstance(network, SubstitutedNetwork):
        raise UserError("the architecture says which layers are substituted; set substitute.kind to 'none'.")
    return substituted(
        network,
        images.shape,
        kind=substitute["kind"],
        budget=substitute["budget"],
        setting=substitute["setting"],
        keep=tuple(substitute["keep"]),
    )


def as_trained(network: nn.Module, *, recompute: bool, tapped: bool) -> nn.Module:
    """The network in the form in which it is trained: its variables stay, its program has loops over equal cells.

    recompute: whether blocks run again on the way back. tapped: whether what modules answer is looked at, which loops
    and recomputed blocks hide. Raises UserError for a network whose blocks cannot be recomputed.
    """
    hidden = not tapped and not isinstance(network, SubstitutedNetwork)
    settings: dict[str, Any] = {"looped": True} if hidden and hasattr(network, "looped") else {}
    if recompute:
        if not hidden or not hasattr(network, "recomputed"):
            raise UserError(
                "recipe.recompute is for networks of cells and ResNets without substitutes and taps, whose blocks it "
                "hides; set it to False."
            )
        settings["recomputed"] = True
    return network.clone(**settings) if settings else network


def genotypes(text: str, name: str) -> tuple[str, ...]:
    """The architectures that `config.genotype` stands for: one, or what every seed of a search found, its choice first.

    text: a published name, the architecture itself, or a search's result.json. name: of the network that is asked for.
    Genotypes of cells come in the literature's notation.
    """
    if not text.endswith(".json"):
        return (format_genotype(parse_genotype(text)) if name == CELLS else text,)
    result = read_json(Path(text).expanduser())
    field = "genotype" if name == CELLS else "architecture"
    seeds = result.get("per_seed") or []
    entries: list[Any] = [result, *seeds] if isinstance(seeds, list) else [{}]
    if not all(isinstance(entry, dict) and isinstance(entry.get(field), str) for entry in entries):
        raise UserError(f"{text} is no result of a search: it has no field {field!r}; give the result.json of one.")
    return tuple(dict.fromkeys(entry[field] for entry in entries))
