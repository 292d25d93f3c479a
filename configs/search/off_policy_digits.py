"""The progressive off-policy search on the bundled digits; docs/progressive.md asks its questions with this config.

Command: python launch/search.py --config=configs/search/off_policy_digits.py --workdir=runs/off_policy_digits
Expected time: About 5 minutes on two CPU cores, most of it compiling its 2 stages (estimated from a busy machine).
Expected result: 96.7 % retrained with 32,610 parameters; a random cell with 32,538 reaches 98.6 % (seed 0).
"""

from configs.search import common, spaces


def get_config():
    config = common.digits(spaces.DENSE_8)
    config.method = common.off_policy()
    config.method.stage_layers = (3, 4)
    config.method.stage_channels = (8, 8)
    config.method.stage_operations = (10, 5)
    config.method.stage_dropout = (0.3, 0.6)
    config.method.stage_bases = (4e4, 3e4)
    config.method.stage_exponents = (-0.1, -0.1)
    config.method.warmup_epochs = 4
    config.method.every = 1
    config.epochs = 32
    config.method.logits_learning_rate = 0.02
    config.cost.name = "params"
    config.cost.penalty = {"name": "reward_power", "target": 4e4, "exponent": -0.1, "hard": False}
    return config
