"""Prints the size of a stand-alone network as one JSON object: its parameters, multiply-adds and layers.

{"params": without the auxiliary head, "params_with_auxiliary": with it (null if the images are too small for one and
the config asks for none), "mult_adds": of convolutions and linear layers for one image, "layers": cells}
"""

import json
import sys
from pathlib import Path
from typing import Any

FIELDS = ("genotype", "channels", "layers", "auxiliary", "stem", "image_size", "image_channels", "classes")


def run(config: Any) -> None:
    """Prints the description of the network of an evaluation config."""
    from jaxnas.core.errors import UserError
    from jaxnas.costs.counting import network_cost
    from jaxnas.networks.cell_network import CellNetwork
    from jaxnas.spaces.genotype import parse_genotype

    genotype = parse_genotype(config.genotype)
    network = CellNetwork(genotype, config.channels, config.layers, config.classes, config.stem)
    image_shape = (config.image_size, config.image_size, config.image_channels)
    cost = network_cost(network, image_shape)
    try:
        with_auxiliary = network_cost(network.clone(auxiliary=True), image_shape).params
    except UserError:
        if config.auxiliary:
            raise
        with_auxiliary = None
    description = {"params": cost.params, "params_with_auxiliary": with_auxiliary, "mult_adds": cost.mult_adds}
    print(json.dumps(description | {"layers": config.layers}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import main

    sys.exit(main(run, description=__doc__ or "", fields=FIELDS))
