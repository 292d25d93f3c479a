"""One-Shot with path dropout on CIFAR-10, in the cell of NAS-Bench-201.

Command: python launch/search.py --config=configs/search/one_shot_cifar10.py \
    --workdir=runs/one_shot_cifar10 --config.data.path=DIR
Expected time: 150 epochs of a mixture of five operations; not yet measured, an accelerator is advisable.
Expected result: No published figure in this space: about 4 % test error in that of Bender et al. 2018.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.NAS_BENCH_201)
    config.method = common.one_shot()
    config.method.candidates = 2000
    config.epochs = 150
    return config
