"""The section of the report about nested networks trained together: how small and large ones fare over time."""

import numpy as np

from jaxnas.report.figures import Series, curves
from jaxnas.report.markup import figure
from jaxnas.report.palette import ACCENT, CURVE_INKS
from jaxnas.report.record import RunRecord

# Whose accuracies are shown: the name in the history, and the colour.
OF = (("largest", ACCENT), ("middle", CURVE_INKS[1]), ("smallest", CURVE_INKS[2]))


def subnets(record: RunRecord) -> str:
    """Accuracies with the shared weights of the same architectures at every epoch in which these learn.

    Empty for searches whose architectures are not nested.
    """
    known = {name: record.history.get(f"accuracy/{name}") for name, _ in OF}
    values = {name: np.asarray(one, float) for name, one in known.items() if one is not None and np.isfinite(one).any()}
    if not values:
        return ""
    epochs = 1 + max(int(np.flatnonzero(np.isfinite(one).any(axis=0))[-1]) for one in values.values())
    series = [Series(name, values[name][:, :epochs], ink) for name, ink in OF if name in values]
    svg = curves(series, "subnets", "Accuracy of nested networks", percent=True, stages=record.stages)
    caption = (
        "Smallest and largest have the first or the last option of every choice, middle the one between. Where small "
        "networks rise while the largest falls, they interfere."
    )
    words = (
        "Accuracy on the validation half with the weights as they were after every epoch of training, the same "
        "architectures throughout, whether they were trained by then or not."
    )
    plot = f'<div class="plots"><div class="panel">{figure(svg, caption, title="Accuracy of subnets")}</div></div>'
    return f'<h2>Nested networks</h2><p class="quiet">{words}</p>{plot}'
