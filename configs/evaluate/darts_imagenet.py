"""The evaluation network of DARTS on ImageNet (Liu, Simonyan & Yang 2019, second order).

Command: python launch/describe.py --config=configs/evaluate/darts_imagenet.py
Expected time: 5 seconds
Expected result: {"params": 4718752, "params_with_auxiliary": 5979528, "mult_adds": 529911552, "layers": 14}
"""

from ml_collections import ConfigDict


def get_config():
    return ConfigDict(
        {
            "genotype": "DARTS_V2",  # a published name, or Genotype(normal=[...], ...)
            "channels": 48,
            "layers": 14,
            "auxiliary": True,  # whether the network trains with an auxiliary head
            "stem": "imagenet",
            "image_size": 224,
            "image_channels": 3,
            "classes": 1000,
        }
    )
