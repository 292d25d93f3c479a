"""The published methods, each a short composition of samplers, estimators, objectives, updates and optimizers.

A method is built from a `Setup`, how it trains the weights and (where it has logits) the architecture, and its own
settings: the fields of `config.method`. To add one, write a function beside its relatives and add it to METHODS.
"""

from collections.abc import Callable, Mapping

from jaxnas.methods.cells import darts, dsnas, gdas, pc_darts, snas
from jaxnas.methods.chains import fbnet, fbnet_v2, mdenas, proxylessnas, single_path
from jaxnas.methods.composed import composed
from jaxnas.methods.method import Arch, Method, Setup, Stage, Weights
from jaxnas.methods.progressive import p_darts
from jaxnas.methods.random_search import random_search

__all__ = ["METHODS", "UNPRICED", "Arch", "Method", "Setup", "Stage", "Weights"]

# Methods without a loss of the architecture, which a cost could enter.
UNPRICED = ("mdenas", "random")

METHODS: Mapping[str, Callable[..., Method | tuple[Stage, ...]]] = {
    "darts": darts,
    "gdas": gdas,
    "snas": snas,
    "dsnas": dsnas,
    "pc_darts": pc_darts,
    "p_darts": p_darts,
    "proxylessnas": proxylessnas,
    "fbnet": fbnet,
    "fbnet_v2": fbnet_v2,
    "single_path": single_path,
    "mdenas": mdenas,
    "composed": composed,
    "random": random_search,
}
