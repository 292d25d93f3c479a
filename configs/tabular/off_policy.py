"""The questions of the progressive off-policy search, asked of NAS-Bench-Macro's table: behaviours and corrections.

Does a policy that learns from what others draw converge to one option as early, and what do importance weights cost?
The weights of a supernet have no part in it, so that what differs here is the learning of the policy alone.

Command: python launch/tabular.py --config=configs/tabular/off_policy.py --workdir=runs/tabular_off_policy
    --config.table.path=nas_bench_macro.csv
Expected time: 2 minutes on an idle CPU core, most of it compiling; 4.5 on one shared with other work.
Expected result: 99 % of the repetitions of the policy itself find the best chain; of ε-greedy ones 66 % without
    correction and 96 % with self-normalised weights; what random behaviour teaches is better without any.
"""

from configs.search import spaces
from configs.tabular import common

CORRECTIONS = ("none", "ordinary", "clipped", "self_normalised", "per_decision")
SELECTIONS = ("argmax", "vote", "best_sampled")


def get_config():
    fresh = {**common.OFF_POLICY, "replay": 0, "replayed": 0}
    strategies = {"policy": {**fresh, "behaviour": "policy", "correction": "none"}}
    for behaviour in ("random", "epsilon"):
        for correction in CORRECTIONS:
            strategies[f"{behaviour}_{correction}"] = {**fresh, "behaviour": behaviour, "correction": correction}
    for correction in CORRECTIONS:
        strategies[f"replay_{correction}"] = {**common.OFF_POLICY, "behaviour": "policy", "correction": correction}
    for selection in SELECTIONS[1:]:
        strategies[f"policy_{selection}"] = {**strategies["policy"], "selection": selection}
    config = common.tabular("What do behaviours and importance weights change?", spaces.NAS_BENCH_MACRO, strategies)
    config.table.update({"metric": "test_accuracy_mean", "scale": 0.01, "noise": 0.0})
    return config
