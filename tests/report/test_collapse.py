"""Warnings: each where its threshold is passed and nowhere else, with the figures that it rests on."""

import itertools

import numpy as np
import pytest
from fake_record import make_other_record, make_record
from parsed_page import Page

from jaxnas.report.collapse import SMOOTHED, cautions, chance_of_agreement, smoothed, warnings_box
from jaxnas.report.page import render
from jaxnas.report.record import RunRecord

OPTIONS = ("none", "skip_connect", "max_pool_3x3", "conv")


def record(epochs=8, seeds=(0,), config=None, **history):
    """A record whose histories are given for one seed and repeated for all, {name with __ for /: values of epochs}."""
    repeated = {
        name.replace("__", "/"): np.repeat(np.asarray(values, float)[None], len(seeds), axis=0)
        for name, values in history.items()
    }
    result = {"method": "m", "data": "d", "space": "s", "seeds": list(seeds)}
    rows = {"normal": [f"choice {number}" for number in range(8)]}
    return RunRecord({"epochs": epochs} | (config or {}), result, repeated, {"normal": OPTIONS}, (), rows, {})


def rising(last, epochs=8):
    return [*[0.0] * (epochs - 1), last]


ENTROPY = np.log(len(OPTIONS))
CASES = {
    "identities": ({"skips__normal": rising(0.51)}, {"skips__normal": rising(0.5)}, "51 % are identities"),
    "pools": ({"pools__normal": rising(0.75)}, {"pools__normal": rising(0.5)}, "75 % are pools"),
    "one option": ({"dominant__normal": rising(0.75)}, {"dominant__normal": rising(0.74)}, "makes up 75 %"),
    "entropy": (
        {"entropy__normal": np.full((8, 4), 0.04 * ENTROPY)},
        {"entropy__normal": np.full((8, 4), 0.06 * ENTROPY)},
        "fell to 4.0 % of its maximum within the first 2 of 8 epochs",
    ),
    "stopped": ({"train_loss": np.ones(7)}, {"train_loss": np.ones(8)}, "stopped after 7 of 8 epochs"),
    "curvature": (
        {"curvature": [1.0] * 5 + [6.0] * 5},
        {"curvature": [1.0] * 5 + [4.9] * 5},
        "ended at 6.0 times its smallest earlier value",
    ),
}


@pytest.mark.parametrize(("beyond", "within", "words"), CASES.values(), ids=CASES.keys())
def test_a_warning_is_given_beyond_its_threshold_only(beyond, within, words):
    epochs = len(next(iter(within.values())))
    found = cautions(record(epochs, **beyond))
    assert [words in caution.seen for caution in found] == [True]
    assert all(caution.why and caution.remedy for caution in found)
    assert cautions(record(epochs, **within)) == ()


def test_only_the_last_epoch_counts():
    assert cautions(record(skips__normal=[1.0] * 7 + [0.0], dominant__normal=[1.0] * 7 + [0.5])) == ()


def test_an_entropy_that_falls_late_or_was_never_there_is_no_collapse():
    late = np.full((8, 4), ENTROPY)
    late[2:] = 0
    assert cautions(record(entropy__normal=late)) == ()
    assert cautions(record(entropy__normal=np.zeros((8, 4)))) == ()


def test_a_choice_that_a_later_stage_opens_has_not_collapsed_before():
    opened = np.full((8, 4), ENTROPY)
    opened[:4] = 0
    assert cautions(record(entropy__normal=opened)) == ()


def test_few_choices_may_agree():
    architecture = np.tile([3, 3, 3, 0, 0, 0, 0, 0], (8, 1))  # three edges are there
    assert cautions(record(dominant__normal=rising(1.0), architecture__normal=architecture)) == ()
    (caution,) = cautions(record(dominant__normal=rising(1.0), architecture__normal=np.full((8, 8), 3)))
    assert "One option, conv, makes up 100 %" in caution.seen


def test_choices_between_two_options_agree_by_chance():
    few = record(dominant__normal=rising(0.75))._replace(options={"normal": ("3x3", "5x5")})
    assert cautions(few) == ()


@pytest.mark.parametrize(("choices", "agreeing", "options"), [(4, 3, 2), (5, 4, 3), (6, 6, 3), (3, 2, 4)])
def test_the_chance_of_agreement_is_the_share_of_all_architectures(choices, agreeing, options):
    every = list(itertools.product(range(options), repeat=choices))
    share = sum(max(map(one.count, one)) >= agreeing for one in every) / len(every)
    assert chance_of_agreement(choices, agreeing, options) == pytest.approx(share, rel=1e-12)


def test_figures_name_their_seeds_where_there_are_several():
    several = record(seeds=(4, 7), skips__normal=rising(0.6))
    several.history["skips/normal"][1, -1] = 0.9
    (caution,) = cautions(several)
    assert "60 % (seed 4), 90 % (seed 7) are identities" in caution.seen
    several.history["skips/normal"][0, -1] = np.nan
    assert "seed 4" not in cautions(several)[0].seen


def test_a_curvature_that_changes_its_sign_alone_and_a_short_search_say_nothing():
    assert cautions(record(10, curvature=[-1.0] * 5 + [1.0] * 5)) == ()
    assert cautions(record(3, curvature=[1.0, 2.0, 30.0])) == ()


def test_one_option_is_named_where_the_seeds_agree():
    several = record(seeds=(0, 1), dominant__normal=rising(1.0), architecture__normal=np.full((8, 8), 3))
    assert "One option, conv, makes up 100 % (seed 0), 100 % (seed 1)" in cautions(several)[0].seen
    several.history["architecture/normal"][1] = 2
    assert "One option makes up" in cautions(several)[0].seen


def test_smoothing_is_the_mean_of_the_last_values():
    values = np.arange(7.0) ** 2
    expected = [np.nan] * (SMOOTHED - 1) + [values[at - SMOOTHED + 1 : at + 1].mean() for at in range(SMOOTHED - 1, 7)]
    np.testing.assert_allclose(smoothed(values), expected, rtol=1e-12)
    assert np.isnan(smoothed(values[:3])).all()


def test_the_box_stands_above_the_sections_and_only_where_something_was_seen():
    calm = make_record(seeds=(0,), epochs=2, nodes=1)
    assert warnings_box(calm) == ""
    other = make_other_record("nas_bench_201", seeds=(0,), epochs=2)
    other.history["skips/cell"][:, -1] = 1.0
    text = Page(render(other)).text
    assert (
        0 < text.index("Of the choices of the derived cell, 100 % are identities") < text.index("Derived architecture")
    )
