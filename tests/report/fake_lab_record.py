"""A made-up but plausible experiment of the lab, for the tests of its report."""

import numpy as np

from jaxnas.evaluate.lab.findings import Curve, Figure, Findings, Table
from jaxnas.report.lab_page import LabRecord

ESTIMATORS = (
    *("STE vanilla", "STE steep", "STE SwishSign", "STE polynomial", "CDG, ε = 0.1", "NES, 500 samples"),
    *("NES, 5,000 samples", "NES, 50,000 samples", "sr-STE, 10 draws", "smoothed", "identity", "tanh"),
)
WIDTHS = np.array([2, 4, 8, 16, 32, 64])


def by_width(rng, estimators):
    """The best decrease over widths, mean ± sd: a few points on a logarithmic axis."""
    curves = []
    for rank, name in enumerate(estimators):
        mean = (0.34 - 0.02 * rank) / (1 + np.log2(WIDTHS) * (0.25 + 0.05 * rank)) + rng.normal(size=6) * 0.006
        spread = 0.03 / np.sqrt(WIDTHS) + 0.004
        curves.append(Curve(name, WIDTHS, mean, mean - spread, mean + spread))
    caption = "Mean ± sd over 3 initialisations × 10 batches."
    return Figure("Best loss decrease", caption, "width of the layers", "loss decrease", tuple(curves), log_x=True)


def by_rate(rng, estimators, rates=50):
    """The decrease over learning rates: a parabola that turns down at a large rate."""
    x = np.geomspace(1e-4, 1, rates)
    curves = []
    for rank, name in enumerate(estimators):
        best = 0.05 + 0.25 / (1 + 0.6 * rank)
        mean = (0.11 - 0.007 * rank) * (2 * x / best - (x / best) ** 2).clip(-1.2) + rng.normal(size=rates) * 2e-4
        curves.append(Curve(name, x, mean, mean - 0.1 * abs(mean), mean + 0.1 * abs(mean)))
    caption = "Width 32. One step along the normalised gradient."
    return Figure("Loss decrease", caption, "learning rate", "loss decrease", tuple(curves), log_x=True)


def buying(rng, estimators):
    """What an estimator costs and what it gives: a point for each."""
    seconds = np.geomspace(0.01, 900, len(estimators))
    cosines = np.linspace(0.35, 0.99, len(estimators))
    rng.shuffle(cosines)
    curves = (
        Curve(name, np.array([x]), np.array([y]), np.array([y - 0.05 * (1 - y)]), np.array([y + 0.05 * (1 - y)]), True)
        for name, x, y in zip(estimators, seconds, cosines, strict=True)
    )
    title, caption = "Which estimator to buy", "Hidden layers, width 32, batch 160,000."
    return Figure(title, caption, "seconds for a gradient", "cosine to the truth", tuple(curves), log_x=True)


def make_lab_record(estimators=ESTIMATORS, rates=50):
    """The record of an experiment with three figures, two of them with all the estimators, and a table."""
    rng = np.random.default_rng(0)
    width = by_width(rng, estimators[:8])
    rows = tuple((each.label, *(f"{mean:.3f} ± 0.012" for mean in each.mean)) for each in width.curves)
    table = Table("Best loss decrease", ("estimator", *map(str, WIDTHS)), rows, "Mean ± sd, for each width.")
    sentences = (
        "The smoothed gradient points downhill best at every width: its step takes 0.112 ± 0.006 off the loss at width "
        "32, where the vanilla STE takes 0.097 ± 0.005 and 50,000 samples of NES 0.041 ± 0.009.",
        "Above width 16, NES at 500 samples cannot be told from a random direction.",
        "The CDG is within one standard deviation of the smoothed gradient for ε between 0.03 and 0.3.",
    )
    numbers = {"best": {name: float(curve.mean[-1]) for name, curve in zip(estimators, width.curves, strict=False)}}
    figures = (width, by_rate(rng, estimators, rates), buying(rng, estimators))
    config = {
        "experiment": "best_by_width",
        "seed": 0,
        "small": False,
        "settings": {"dims": (2, 4, 8, 16, 32, 64), "batch_size": 160000, "sigma": 0.1},
        "when_small": {"dims": (2, 4), "batch_size": 4096},
        "checkpoint": {"every_seconds": 60.0, "keep": 2},
    }
    return LabRecord(
        name="best_by_width",
        config=config,
        findings=Findings(numbers, sentences, figures, (table,)),
        seconds=1234.5,
        versions={"jax": "0.10.0", "jaxnas": "0.1"},
        question="Of all ways to get a gradient through a sign, which one points downhill, and at what width?",
    )
