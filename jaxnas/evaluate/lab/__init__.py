"""The estimator lab: gradients through sign activations, measured against the truth. See docs/lab.md."""

from jaxnas.evaluate.lab.event_sweep import sweep
from jaxnas.evaluate.lab.table import estimator, estimators, gradient
from jaxnas.networks.sign_network import loss

__all__ = ["estimator", "estimators", "gradient", "loss", "sweep"]
