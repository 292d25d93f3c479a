"""Few-shot NAS on CIFAR-10, in the chains of NAS-Bench-Macro.

Command: python launch/search.py --config=configs/search/few_shot_cifar10.py --workdir=runs/few_shot_cifar10
Expected time: 60 epochs of one path, then 60 of one path in each of three supernets; not yet measured, an accelerator
    is advisable.
Expected result: Not yet run in full; the best chain of NAS-Bench-Macro has 93.13 %.
"""

from configs.search import common, spaces


def get_config():
    config = common.cifar10(spaces.NAS_BENCH_MACRO)
    config.method = common.few_shot()
    config.epochs = 60
    return config
