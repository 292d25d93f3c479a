"""What the report says of a search by rewards."""

import numpy as np
import pytest
from fake_record import make_other_record, make_record
from parsed_page import Page, assert_self_contained

from jaxnas.report.page import render
from jaxnas.report.rewards import rewards

NAMES = ("reward/sampled", "reward/argmax", "reward/argmin", "reward/best")
POLICY = ("policy/entropy", "policy/effective_sample_size")


def with_rewards(record, *names):
    """The record with curves that begin with an epoch in which the policy did not learn."""
    shape = record.history["train_loss"].shape
    values = np.linspace(0.2, 0.8, shape[1])[None].repeat(shape[0], axis=0)
    values[:, 0] = np.nan
    return record._replace(history={**record.history, **dict.fromkeys(names, values)})


@pytest.mark.parametrize("make", [make_record, lambda **sizes: make_other_record("chain", **sizes)])
def test_rewards_are_drawn_beside_the_weakest_options(make):
    record = with_rewards(make(seeds=(0, 1), epochs=4), *NAMES, *POLICY)
    page = render(record)
    parsed = Page(page)
    assert_self_contained(page)
    assert len(parsed.identifiers) == len(set(parsed.identifiers)) > 0
    expected = ["Rewards", "sampled 80.0%", "most probable 80.0%", "least probable 80.0%", "best so far 80.0%"]
    expected += ["Entropy of the policy", "Effective sample size", "who trails"]
    assert [words for words in expected if words not in parsed.text] == []


def test_searches_without_rewards_have_no_such_section():
    assert rewards(make_record(seeds=(0,), epochs=2)) == ""
    assert "who trails" not in Page(render(make_record(seeds=(0,), epochs=2))).text


@pytest.mark.parametrize(("names", "shown"), [(NAMES, "Reward"), (POLICY[:1], "Entropy of the policy")])
def test_what_a_method_does_not_log_is_left_out(names, shown):
    text = Page(rewards(with_rewards(make_record(seeds=(0,), epochs=3), *names))).text
    assert shown in text and "Effective sample size" not in text
