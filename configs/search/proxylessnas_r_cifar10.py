"""ProxylessNAS-R on CIFAR-10, in the chain of its paper's ImageNet space at 32×32, with MnasNet's reward.

Command: python launch/search.py --config=configs/search/proxylessnas_r_cifar10.py \
    --workdir=runs/proxylessnas_r_cifar10 --config.data.path=DIR
Expected time: 160 epochs of one path, after 40 with rewards; not yet measured, an accelerator is advisable.
Expected result: The paper's 2.30 % on CIFAR-10 is of another space (PyramidNet); no published figure for this one.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.PROXYLESSNAS_32)
    config.method = common.proxylessnas_r()
    config.epochs = 160
    config.batch_size = 256
    config.cost.name = "mult_adds"
    config.cost.penalty = {"name": "reward_power", "target": 1e8, "exponent": -0.07, "hard": False}
    return config
