"""Prints what a stand-alone network is made of as one JSON object, without data and without training it.

{"params": learned numbers, "mult_adds": of convolutions and linear layers for one image, ...}. Networks of cells add
"layers" and "params_with_auxiliary" (null if the images are too small for the head and the config asks for none),
binary ones "binary_params" and "binary_mult_adds", which the others include, and those with substitutes "dense_params"
and "substitutes", an entry for every layer.
"""

import json
import sys
from pathlib import Path
from typing import Any


def run(config: Any) -> None:
    """Prints the description of the network of an evaluation config."""
    from jaxnas.core.errors import UserError
    from jaxnas.costs.counting import network_cost
    from jaxnas.evaluate.description import describe_network
    from jaxnas.evaluation_network import build_network, genotypes, images_of
    from jaxnas.limits import check_evaluation_fields

    check_evaluation_fields(config)
    text = genotypes(config.genotype, config.network.name)[0] if "genotype" in config else ""
    images = images_of(config)
    description = describe_network(build_network(config, images, text), images.shape)
    if "auxiliary" in config.network:
        config.network.auxiliary, asked = True, config.network.auxiliary
        try:
            with_auxiliary = network_cost(build_network(config, images, text), images.shape).params
        except UserError:
            if asked:
                raise
            with_auxiliary = None
        description |= {"params_with_auxiliary": with_auxiliary, "layers": config.network.layers}
    print(json.dumps(description))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jaxnas.core.cli import main

    fields = ("images", "network", "substitute")
    sys.exit(main(run, description=__doc__ or "", fields=fields, example="configs/evaluate/wrn_28_10.py"))
