"""Signs that a search has collapsed, in plain words: what was seen, why it matters, what one can try."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxnas.report.architecture import part_title
from jaxnas.report.markup import text
from jaxnas.report.record import NONE, RunRecord, noun

# Half of all choices. DARTS+ (Liang et al. 2019) stops a search at two identities among eight, and the published cells
# of DARTS have two or three.
MOST_IDENTITIES = 0.5
# Half, as for identities: pools have no weights either, and win for the same reason.
MOST_POOLS = 0.5
# Three quarters are far from an even mixture, but where choices or options are few that happens by itself: so it has to
# be rarer than one in ten among architectures drawn evenly. Six of eight choices among seven options are one in 800.
ONE_OPTION, FEWEST_CHOICES, BY_CHANCE = 0.75, 4, 0.1
# Less than a twentieth of the entropy of a fair choice is a decision; weights that have seen a quarter of the epochs
# are too young to base it on.
DECIDED, EARLY = 0.05, 0.25
# Zela et al. 2020 stop at a growth by a third within SMOOTHED epochs, which is their window. Searches that end well
# reach that, too; a factor of five is far from all of those.
STEEPER, SMOOTHED = 5.0, 5


class Caution(NamedTuple):
    """One warning, as plain text: what was seen with its figures, why it matters, and what one can try."""

    seen: str
    why: str
    remedy: str


def cautions(record: RunRecord) -> tuple[Caution, ...]:
    """The warnings that a record gives rise to, in a fixed order; histories that it lacks give none."""
    checks: tuple[Callable[[RunRecord], list[Caution]], ...] = (
        _stopped,
        _identities,
        _pools,
        _one_option,
        _decided_early,
        _steep,
    )
    return tuple(caution for check in checks for caution in check(record))


def warnings_box(record: RunRecord) -> str:
    """The warnings as a box for the top of the report, as HTML; empty where there are none."""
    points = "".join(
        f"<li><b>{text(each.seen)}</b> {text(each.why)} {text(each.remedy)}</li>" for each in cautions(record)
    )
    return f'<section class="panel warnings"><h3>Warnings</h3><ul>{points}</ul></section>' if points else ""


def named(record: RunRecord, part: str) -> str:
    """A part in the middle of a sentence: "normal cell", "architecture" where it has no other parts."""
    if part in ("normal", "reduce"):
        return part_title(part).lower()
    return noun(record) if len(record.options) == 1 else f"part “{part}”"


def _last(record: RunRecord, name: str) -> dict[int, float]:
    """{seed: the last epoch's value} of a history [seeds, epochs], of the seeds that have one."""
    values = np.asarray(record.history.get(name, np.zeros((0, 0))))
    if values.ndim < 2 or not values.shape[1]:
        return {}
    return {
        seed: float(row[-1]) for seed, row in zip(record.result["seeds"], values, strict=True) if np.isfinite(row[-1])
    }


def _listed(values: Mapping[int, float], form: Callable[[float], str], record: RunRecord) -> str:
    """Figures with their seeds, where there are several: "75 % (seed 0), 62 % (seed 2)"."""
    if len(record.result["seeds"]) == 1:
        return ", ".join(map(form, values.values()))
    return ", ".join(f"{form(value)} (seed {seed})" for seed, value in values.items())


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def _above(values: Mapping[int, float], limit: float) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if value > limit}


def _identities(record: RunRecord) -> list[Caution]:
    part = next(iter(record.options), "")
    found = _above(_last(record, f"skips/{part}"), MOST_IDENTITIES)
    if not found:
        return []
    return [
        Caution(
            f"Of the choices of the derived {named(record, part)}, {_listed(found, _percent, record)} are identities.",
            "Identities pass gradients on best while the weights beside them are still young, so that a shared network "
            "prefers them; trained alone, networks of identities have little to learn with (Zela et al. 2020).",
            "Try fewer epochs or monitor.skips, which stops in time (DARTS+), dropout on the identities (P-DARTS), or "
            "a method that samples paths.",
        )
    ]


def _pools(record: RunRecord) -> list[Caution]:
    part = next(iter(record.options), "")
    found = _above(_last(record, f"pools/{part}"), MOST_POOLS)
    if not found:
        return []
    return [
        Caution(
            f"Of the choices of the derived {named(record, part)}, {_listed(found, _percent, record)} are pools.",
            "Pools have no weights, and like identities look better inside a shared network than they are alone.",
            "Try a search in which the weights learn alone for the first epochs (warmup_epochs), partial channels "
            "(PC-DARTS), or a method that samples paths.",
        )
    ]


def _one_option(record: RunRecord) -> list[Caution]:
    found = []
    for part, options in record.options.items():
        kinds = sum(option != NONE for option in options)
        shares, chances, names = {}, [], set()
        for seed, share in _last(record, f"dominant/{part}").items():
            name, made = _frequent(record, part, seed)
            chance = chance_of_agreement(made, round(share * made), kinds)
            if share >= ONE_OPTION and made >= FEWEST_CHOICES and chance <= BY_CHANCE:
                shares[seed] = share
                chances.append(chance)
                names.add(name)
        if shares:
            name = f", {names.pop()}," if len(names) == 1 and "" not in names else ""
            found.append(
                Caution(
                    f"One option{name} makes up {_listed(shares, _percent, record)} of the choices of the derived "
                    f"{named(record, part)}.",
                    f"Among architectures drawn evenly at most {100 * max(chances):.2g} % are so uniform: either the "
                    "option is that much better everywhere, or the search prefers it whatever stands around it.",
                    "Compare with a network of this option alone and with the random baseline; try several seeds, or "
                    "the search without this option.",
                )
            )
    return found


def chance_of_agreement(choices: int, agreeing: int, options: int) -> float:
    """The probability, at most, that so many of the choices agree when each is drawn evenly from the options.

    The sum over options of each one's binomial tail, an upper bound that is exact above half of the choices.
    """
    tail = sum(
        math.comb(choices, number) * (options - 1) ** (choices - number) for number in range(agreeing, choices + 1)
    )
    return min(1.0, options * tail / options**choices)


def _frequent(record: RunRecord, part: str, seed: int) -> tuple[str, int]:
    """The most frequent option of the last epoch's architecture, "" where it is not known, and how many were made."""
    epochs = np.asarray(record.history.get(f"architecture/{part}", np.zeros((0, 0, 0))))
    if not epochs.size:
        return "", len(record.rows.get(part, ())) or FEWEST_CHOICES
    numbers = epochs[list(record.result["seeds"]).index(seed), -1]
    names = [record.options[part][int(number)] for number in numbers]
    made = [name for name in names if name != NONE]
    return max(dict.fromkeys(made), key=made.count, default=""), len(made)


def _decided_early(record: RunRecord) -> list[Caution]:
    found = []
    for part, options in record.options.items():
        entropy = np.asarray(record.history.get(f"entropy/{part}", np.zeros((0, 0, 0))))
        # Exactly 0 throughout: a method without probabilities, which cannot collapse. At first: of a choice that only a
        # later stage opens.
        if not entropy.size or len(options) < 2 or not np.nan_to_num(entropy[:, 0]).any():
            continue
        share = entropy.mean(axis=-1) / math.log(len(options))
        first = math.ceil(EARLY * _planned(record, share.shape[1]))
        low = {
            seed: float(row.min())
            for seed, row in zip(record.result["seeds"], share[:, :first], strict=True)
            if row.min() < DECIDED
        }
        if low:
            found.append(
                Caution(
                    f"The mean entropy of the {named(record, part)} fell to {_listed(low, _tenths, record)} of its "
                    f"maximum within the first {first} of {_planned(record, share.shape[1])} epochs.",
                    "The architecture was decided while the weights were young; what comes after only trains it.",
                    "Try a smaller learning rate of the logits, a higher temperature, or epochs at the start in which "
                    "the weights learn alone (warmup_epochs).",
                )
            )
    return found


def _tenths(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _steep(record: RunRecord) -> list[Caution]:
    values = np.asarray(record.history.get("curvature", np.zeros((0, 0))))
    growth = {
        seed: factor
        for seed, row in zip(record.result["seeds"], values, strict=False)
        if (factor := _growth(row)) > STEEPER
    }
    if not growth:
        return []
    return [
        Caution(
            f"The curvature of the validation loss in the logits ended at {_listed(growth, _times, record)} its "
            "smallest earlier value.",
            "Where it grows, rounding the mixture to one architecture costs accuracy, and found architectures "
            "generalise worse (Zela et al. 2020).",
            "Try monitor.curvature_growth, which stops in time, more weight decay or dropout on the weights, or "
            "fewer epochs.",
        )
    ]


def smoothed(values: np.ndarray) -> np.ndarray:
    """[epochs] -> [epochs], the mean of each value and the SMOOTHED - 1 before it; NaN where there are not so many."""
    if len(values) < SMOOTHED:
        return np.full(len(values), np.nan)
    means = np.convolve(values, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")
    return np.concatenate([np.full(SMOOTHED - 1, np.nan), means])


def _growth(values: np.ndarray) -> float:
    """The last smoothed magnitude over the smallest one before it; 0 where there is none."""
    means = smoothed(np.abs(values))
    before = means[:-1][means[:-1] > 0]
    return float(means[-1] / before.min()) if len(before) and np.isfinite(means[-1]) else 0.0


def _times(factor: float) -> str:
    return f"{factor:.1f} times"


def _stopped(record: RunRecord) -> list[Caution]:
    epochs = max((values.shape[1] for values in record.history.values()), default=0)
    planned = _planned(record, epochs)
    if not 0 < epochs < planned:
        return []
    return [
        Caution(
            f"The search was stopped after {epochs} of {planned} epochs.",
            "Its monitor saw a sign of collapse in every seed; what was derived is the architecture of the epoch "
            "before that.",
            "Look at the signs of collapse below: where they came within a few epochs, try another method or a smaller "
            "learning rate of the logits.",
        )
    ]


def _planned(record: RunRecord, epochs: int) -> int:
    """The epochs that the config asks for, or where it does not say, those that there were."""
    planned = record.config.get("epochs")
    return planned if isinstance(planned, int) else epochs
