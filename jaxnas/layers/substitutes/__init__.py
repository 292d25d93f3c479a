"""Compressed layers that can stand for any dense convolution, and the search for the one that fits a budget."""

from jaxnas.layers.substitutes.budget import within_budget
from jaxnas.layers.substitutes.table import KINDS

__all__ = ["KINDS", "within_budget"]
