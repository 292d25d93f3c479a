"""The section of the report about a search by rewards: what policies earned, how they learn, and who trails."""

import numpy as np

from jaxnas.report.architecture import inks, part_title
from jaxnas.report.figures import Series, curves
from jaxnas.report.heatmaps import decisions
from jaxnas.report.markup import figure, text
from jaxnas.report.palette import ACCENT, CURVE_INKS, MUTED
from jaxnas.report.record import RunRecord, part_of, parts, seeds

# Of which architectures rewards are shown: the name in the history, the words of the figure, colour and dashes.
OF = (
    ("sampled", "sampled", ACCENT, False),
    ("argmax", "most probable", CURVE_INKS[1], False),
    ("best", "best so far", CURVE_INKS[2], False),
    ("argmin", "least probable", MUTED, True),
)


def rewards(record: RunRecord) -> str:
    """Rewards, entropy, baseline and effective sample size over epochs, and the weakest option of every choice.

    Empty for searches that do not learn from rewards.
    """
    panels = [panel for panel in (_earned(record), _entropy(record), _sample_size(record)) if panel]
    if not panels:
        return ""
    words = (
        "Means over an epoch's updates of the policy, all with the shared weights and on the validation batch of the "
        "update; gaps where the policy did not learn."
    )
    weakest = "".join(_weakest(record, part) for part in parts(record))
    plots = f'<div class="plots">{"".join(panels)}</div>'
    return f'<h2>Rewards</h2><p class="quiet">{words}</p>{plots}<div class="stack">{weakest}</div>'


def _earned(record: RunRecord) -> str:
    series = [
        Series(label, record.history[f"reward/{name}"], ink, dashed)
        for name, label, ink, dashed in OF
        if _known(record, f"reward/{name}")
    ]
    if not series:
        return ""
    svg = curves(series, "rewards", "Rewards of architectures", percent=True, stages=record.stages)
    caption = (
        "Where the most probable architecture earns no more than those sampled, the policy has learned nothing; where "
        "the least probable earns as much, its order is chance."
    )
    return _panel(figure(svg, caption, title="Reward"))


def _entropy(record: RunRecord) -> str:
    if not _known(record, "policy/entropy"):
        return ""
    svg = curves(
        [Series("", record.history["policy/entropy"])], "policy-entropy", "Entropy of the policy", stages=record.stages
    )
    caption = "Of whole architectures, in nats; a fall within a few updates is a decision by chance that feeds itself."
    return _panel(figure(svg, caption, title="Entropy of the policy"))


def _sample_size(record: RunRecord) -> str:
    if not _known(record, "policy/effective_sample_size"):
        return ""
    series = [Series("", record.history["policy/effective_sample_size"])]
    svg = curves(series, "sample-size", "Effective sample size", stages=record.stages)
    caption = (
        "(Σ w)² / Σ w² of an update's importance weights: how many samples of the policy itself would tell as much."
    )
    return _panel(figure(svg, caption, title="Effective sample size"))


def _weakest(record: RunRecord, name: str) -> str:
    """The least probable of the options that a choice still has, over the epochs of the selected seed."""
    seed = seeds(record)[0]
    values = np.asarray(record.history[f"probabilities/{name}"][list(record.result["seeds"]).index(seed)])
    part = part_of(record, name)
    svg = decisions(
        np.where(values > 0, 1 - values, 0.0),
        part,
        inks(record),
        (),
        f"weakest-{name}",
        f"Weakest option of every choice, {name}",
    )
    caption = f"The least probable option that is still searched, which a stage's end drops first. Seed {text(seed)}."
    return _panel(figure(svg, caption, title=f"{part_title(name)}: who trails"))


def _known(record: RunRecord, name: str) -> bool:
    values = record.history.get(name)
    return values is not None and bool(np.isfinite(values).any())


def _panel(content: str) -> str:
    return f'<div class="panel">{content}</div>'
