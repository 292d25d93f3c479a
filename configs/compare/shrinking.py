"""Whether shrinking keeps small and large subnets from harming each other: beside joint training and the sandwich rule.

Command: python launch/compare.py --config=configs/compare/shrinking.py --workdir=runs/shrinking
    --config.base.data.path=cifar10_4000.npz
Expected time: About 40 minutes on one CPU core.
Expected result: Of one seed, accuracies of the smallest, a middle and the largest subnet of 36.3, 40.0 and 40.9 % by
    shrinking, 35.2, 40.9 and 39.7 % by joint training, 30.4, 32.3 and 33.0 % by the sandwich rule
    (docs/weight_sharing.md has them over time).
"""

from configs.compare import weight_sharing
from configs.compare.common import comparison
from configs.search import common

# About 50 epochs of one subnet each: 8 of the largest, 4 of one subnet, 5 of two, 7 of four; 12 of four.
EPOCHS = {"once_for_all": 8, "joint": 12, "sandwich": 12}


def get_config():
    base = weight_sharing.base()
    methods = {"once_for_all": common.once_for_all(), "joint": common.joint(), "sandwich": common.sandwich()}
    methods["once_for_all"].update(weight_sharing.SHRINKING)
    for method in methods.values():
        method.update({**weight_sharing.TRAINING, **common.SHORT_PREDICTION, "calibrate": 128})
    config = comparison("Does shrinking keep subnets from harming each other?", base, methods)
    for label, epochs in EPOCHS.items():
        config.methods[label].epochs = epochs
    config.equal_budget = False  # as many subnets, each on a batch; joint training makes four of a step
    return config
