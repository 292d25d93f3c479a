"""The questions of docs/progressive.md with shared weights: behaviours, corrections, baselines, modes, selections.

Command: python launch/compare.py --config=configs/compare/progressive_questions.py --workdir=runs/progressive_questions
    --config.table.path=nas_bench_macro.csv --config.base.data.path=cifar10_4000.npz
Expected time: About 60 minutes on one CPU core.
Expected result: 91.35 % ± 2.00 of true accuracy for the policy, 89.70 % ± 2.42 for one that does not learn, and 91.01 %
    to 92.34 % for all others; a random chain has 91.18 % ± 0.76 (docs/progressive.md).
"""

from configs.compare.common import comparison, narrow_macro
from configs.search import common

EPOCHS = 12
# {label: what differs from ε-greedy samples with ordinary importance weights, which ε bounds below the clip}
VARIANTS = {
    "epsilon_clipped": {},
    "epsilon_none": {"correction": "none"},
    "epsilon_self_normalised": {"correction": "self_normalised"},
    "policy": {"behaviour": "policy", "correction": "none"},
    "policy_frozen": {"behaviour": "policy", "correction": "none", "logits_learning_rate": 1e-9},
    "random_none": {"behaviour": "random", "correction": "none"},
    "random_clipped": {"behaviour": "random"},
    "policy_no_baseline": {"behaviour": "policy", "correction": "none", "baseline_decay": 0.0},
    "policy_slow_baseline": {"behaviour": "policy", "correction": "none", "baseline_decay": 0.99},
    "policy_replay": {"behaviour": "policy", "replay": 200, "replayed": 10},
    "policy_separate": {"behaviour": "policy", "correction": "none", "mode": "separate", "cycle_epochs": (1, 1)},
    "policy_vote": {"behaviour": "policy", "correction": "none", "selection": "vote"},
    "policy_best_sampled": {"behaviour": "policy", "correction": "none", "selection": "best_sampled"},
}


def one_stage():
    """The search without stages: chains have no cells to add, and every question is about what happens within one."""
    method = common.off_policy()
    lists = ("layers", "channels", "operations", "dropout", "bases", "exponents")
    method.update({f"stage_{name}": () for name in lists})
    method.update({"warmup_epochs": 4, "every": 1, "replay": 0, "replayed": 0, "logits_learning_rate": 0.05})
    return method


def get_config():
    methods = {}
    for label, fields in VARIANTS.items():
        methods[label] = one_stage()
        methods[label].update(fields)
    config = comparison("What makes off-policy rewards collapse?", narrow_macro(EPOCHS), methods)
    # Half of the epochs after the warm-up train the policy alone; the weights learn as long as in the others.
    config.methods["policy_separate"].epochs = EPOCHS + (EPOCHS - 4)
    config.equal_budget = False  # which counts the epochs of the policy alone as well
    config.table.metric = "test_accuracy_mean"
    config.ranking.update({"architectures": 50, "images": 512})
    return config
