"""The evaluation network of DARTS on CIFAR-10 (Liu, Simonyan & Yang 2019, second order).

Command: python launch/describe.py --config=configs/evaluate/darts_cifar10.py
Expected time: 5 seconds
Expected result: {"params": 3349342, "params_with_auxiliary": 3825768, "mult_adds": 528359040, "layers": 20}
"""

from ml_collections import ConfigDict


def get_config():
    return ConfigDict(
        {
            "genotype": "DARTS_V2",  # a published name, or Genotype(normal=[...], ...)
            "channels": 36,
            "layers": 20,
            "auxiliary": True,  # whether the network trains with an auxiliary head
            "stem": "cifar",
            "image_size": 32,
            "image_channels": 3,
            "classes": 10,
        }
    )
