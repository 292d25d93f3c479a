"""The published methods, each a short composition of samplers, estimators, objectives, updates and optimizers.

A method is built from a `Setup`, how it trains the weights and (where it has logits) the architecture, and its own
settings: the fields of `config.method`. To add one, write a function beside its relatives and add it to METHODS.
"""

from collections.abc import Callable, Mapping

from jaxnas.methods.cells import darts, dsnas, gdas, pc_darts, snas
from jaxnas.methods.chains import fbnet, fbnet_v2, mdenas, proxylessnas, single_path
from jaxnas.methods.composed import composed
from jaxnas.methods.controllers import enas, proxylessnas_r
from jaxnas.methods.few_shot import few_shot
from jaxnas.methods.halving import halving
from jaxnas.methods.method import Arch, Method, Setup, Stage, Weights
from jaxnas.methods.off_policy import off_policy
from jaxnas.methods.once_for_all import joint, once_for_all, sandwich
from jaxnas.methods.predicted import Prediction, predicted
from jaxnas.methods.progressive import p_darts
from jaxnas.methods.random_search import random_search
from jaxnas.methods.sampled import Evolution, fairnas, one_shot, random_nas, spos
from jaxnas.methods.smash import smash

__all__ = ["METHODS", "REWARDED", "UNPRICED", "Arch", "Evolution", "Method", "Prediction", "Setup", "Stage", "Weights"]

# Methods without a loss of the architecture, which a cost could enter.
UNPRICED = ("mdenas", "random", "halving")
# Methods that maximise a reward, which only the penalty for rewards fits.
REWARDED = ("enas", "proxylessnas_r", "off_policy")

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
    "enas": enas,
    "proxylessnas_r": proxylessnas_r,
    "off_policy": off_policy,
    "random": random_search,
    "halving": halving,
    "random_nas": random_nas,
    "one_shot": one_shot,
    "spos": spos,
    "fairnas": fairnas,
    "few_shot": few_shot,
    "smash": smash,
    "once_for_all": once_for_all,
    "joint": joint,
    "sandwich": sandwich,
    "predicted": predicted,
}
