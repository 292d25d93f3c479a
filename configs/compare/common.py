"""The fields that every comparison has, and the methods with the settings that they take in short searches."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.search import common, spaces


def comparison(question: str, base: ConfigDict, methods: Mapping[str, ConfigDict]) -> ConfigDict:
    """The config of a comparison; `methods` are the fields `method` of searches, by label.

    An entry of `methods` may also hold other fields of `base` that are the method's own, such as epochs.
    """
    return ConfigDict(
        {
            "question": question,  # what the report says that it asks
            "base": base,
            "methods": {label: {"method": method} for label, method in methods.items()},
            "equal_budget": True,  # refuse methods that train their weights on different numbers of examples
            "table": {
                "path": "",  # a CSV file with true accuracies: architecture,METRIC,...
                "metric": "",
                "scale": 0.01,  # makes fractions of the table's percentages
            },
            "ranking": {
                "architectures": 0,  # random ones, whose order by the shared weights is compared with the table's
                "images": 0,  # of the validation half, 0: all of them
            },
        }
    )


def narrow_macro(epochs: int) -> ConfigDict:
    """Searches in NAS-Bench-Macro's space on an npz file of a few thousand images; a table says what they found.

    A quarter of the channels: the supernet only has to tell the 6561 strings apart.
    """
    base = common.cifar10({**spaces.NAS_BENCH_MACRO, "stem": 8, "widths": (16, 32, 64), "head": 320})
    base.update({"epochs": epochs, "batch_size": 64, "num_seeds": 3})
    base.data.name = "npz"
    base.retrain.epochs = 0
    return base


def chain_methods(epochs: int, candidates: int) -> dict[str, ConfigDict]:
    """Every method that runs on chains of blocks, with schedules for searches of so many epochs.

    The logits move as fast in each, because the published rates are those of searches many times as long.
    """
    methods = {
        "darts": common.darts(order=1),
        "gdas": common.gdas(),
        "snas": common.snas(),
        "dsnas": common.dsnas(),
        "proxylessnas": common.proxylessnas(),
        "fbnet": common.fbnet(),
        "mdenas": common.mdenas(),
    }
    for name, method in methods.items():
        if "warmup_epochs" in method:
            method.warmup_epochs = epochs // 5
        if name != "mdenas":  # which has no gradient
            method.update(common.SHORT_LOGITS)
    methods["proxylessnas"].every = 1
    methods["mdenas"].distribution_learning_rate = 0.1
    methods["random"] = common.random_search(candidates)
    return methods
