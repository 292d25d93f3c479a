"""Every method at a size for images of 32×32, as launch/benchmark.py measures them. Data only."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs.search import common, spaces


def search_configs() -> dict[str, ConfigDict]:
    """Every method on two cells or on a chain, at sizes for images of 32×32."""

    def on(space: Mapping[str, Any], method: ConfigDict, **settings: Any) -> ConfigDict:
        config = common.cifar10(space)
        config.method = method
        config.method.update(settings)
        config.epochs = 75
        return config

    cells, macro = spaces.DARTS, spaces.NAS_BENCH_MACRO
    found = {
        "darts": on(cells, common.darts(order=1)),
        "darts, second order": on(cells, common.darts(order=2)),
        "pc_darts": on(cells, common.pc_darts()),
        "p_darts": on(cells, common.p_darts()),
        "gdas": on(cells, common.gdas()),
        "snas": on(cells, common.snas()),
        "dsnas": on(cells, common.dsnas()),
        "random": on(cells, common.random_search(candidates=25)),
    }
    methods = {
        "darts": common.darts(order=1),
        "gdas": common.gdas(),
        "snas": common.snas(),
        "dsnas": common.dsnas(),
        "proxylessnas, full": common.proxylessnas(),
        "proxylessnas, two paths": common.proxylessnas(),
        "fbnet": common.fbnet(),
        "mdenas": common.mdenas(),
        "random": common.random_search(candidates=25),
    }
    own = {"proxylessnas, full": {"gates": "full", "every": 1}, "proxylessnas, two paths": {"every": 1}}
    for name, method in methods.items():
        found[f"{name} on a chain"] = on(macro, method, **own.get(name, {}))
    return found
