"""The progressive off-policy search on CIFAR-10, at the stages and prices of the log that it comes from.

Command: python launch/search.py --config=configs/search/off_policy_cifar10.py \
    --workdir=runs/off_policy_cifar10 --config.data.path=DIR
Expected time: 75 epochs of one path in three stages, up to 17 cells deep; not yet measured, use an accelerator.
Expected result: The log reports 2.75 % test error at 5.4 million parameters; not yet reproduced here.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.DENSE)
    config.method = common.off_policy()
    config.epochs = 75
    config.batch_size = 96
    config.cost.name = "params"
    config.cost.penalty = {"name": "reward_power", "target": 5.4e6, "exponent": -0.25, "hard": False}
    return config
