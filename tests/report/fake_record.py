"""A made-up but plausible run, for the tests of the report."""

import numpy as np

from jaxnas.report.record import RunRecord

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def cell_edges(nodes):
    return tuple((source, node) for node in range(nodes) for source in range(node + 2))


def probabilities(rng, epochs, edges, pull=0.09):
    """[epochs, edges, ops]: logits that start equal and drift, `skip_connect` and `none` a little more."""
    drift = rng.normal(size=(edges, len(OPERATIONS))) * pull
    drift[:, [0, 3]] += 0.6 * pull
    steps = drift + rng.normal(size=(epochs, edges, len(OPERATIONS))) * pull
    logits = np.cumsum(steps, axis=0) * np.linspace(1, 0.4, epochs)[:, None, None]
    weights = np.exp(logits)
    return weights / weights.sum(axis=-1, keepdims=True)


def derive(final, nodes):
    """Two strongest edges of every node, each with its strongest operation other than `none`."""
    kept = []
    for node in range(nodes):
        rows = [(source, final[row]) for row, (source, at) in enumerate(cell_edges(nodes)) if at == node]
        best = sorted(rows, key=lambda entry: -entry[1][1:].max())[:2]
        kept += [
            (OPERATIONS[1 + int(values[1:].argmax())], source) for source, values in sorted(best, key=lambda e: e[0])
        ]
    return kept


def genotype_text(normal, reduce, nodes):
    concat = f"range(2, {nodes + 2})"
    return f"Genotype(normal={normal}, normal_concat={concat}, reduce={reduce}, reduce_concat={concat})"


def curve(rng, seeds, epochs, start, end, noise):
    time = np.linspace(0, 4, epochs)
    ideal = end + (start - end) * np.exp(-time)
    offset = rng.normal(size=(seeds, 1)) * noise
    return ideal + offset * (1 - np.exp(-time)) + rng.normal(size=(seeds, epochs)) * noise * 0.5


def summary(values):
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def one_seed(rng, seed, final, nodes):
    def cell(parts, retrained):
        genotype = genotype_text(derive(parts[0], nodes), derive(parts[1], nodes), nodes)
        cost = {"params": int(rng.integers(30_000, 60_000)), "mult_adds": int(rng.integers(2_000_000, 5_000_000))}
        return {
            "genotype": genotype,
            "architecture": f"normal:|a~{seed}|",
            "cost": cost,
            "retrained_accuracy": float(retrained),
        }

    noise = [rng.dirichlet(np.ones(len(OPERATIONS)), size=len(cell_edges(nodes))) for _ in range(2)]
    found = cell(final, 0.974 + 0.006 * rng.normal())
    random = cell(noise, 0.966 + 0.008 * rng.normal())
    return {"seed": seed, "search_accuracy": float(0.93 + 0.01 * rng.normal()), "random": random} | found


def make_record(seeds=(0, 1, 2), epochs=12, nodes=4, retrain_epochs=15, config=None):
    rng = np.random.default_rng(0)
    edges, count = cell_edges(nodes), len(seeds)
    history = {
        f"probabilities/{part}": np.stack([probabilities(rng, epochs, len(edges)) for _ in seeds])
        for part in ("normal", "reduce")
    }
    each = [
        one_seed(rng, seed, [history[f"probabilities/{part}"][at, -1] for part in ("normal", "reduce")], nodes)
        for at, seed in enumerate(seeds)
    ]
    history |= {
        "train_loss": curve(rng, count, epochs, 2.3, 0.25, 0.03),
        "valid_loss": curve(rng, count, epochs, 2.3, 0.38, 0.05),
        "train_accuracy": curve(rng, count, epochs, 0.1, 0.955, 0.01),
        "valid_accuracy": curve(rng, count, epochs, 0.1, 0.93, 0.015),
        "entropy": curve(rng, count, epochs, np.log(8), 1.6, 0.05),
    }
    retraining = {
        kind: {
            "loss": curve(rng, count, retrain_epochs, 2.3, 0.12 + extra, 0.02),
            "accuracy": curve(rng, count, retrain_epochs, 0.2, 0.975 - extra / 4, 0.006),
        }
        for kind, extra in (("found", 0.0), ("random", 0.05))
    }
    selected = max(each, key=lambda entry: entry["search_accuracy"])
    found, random = ([entry["retrained_accuracy"] for entry in side] for side in (each, [e["random"] for e in each]))
    result = {
        "method": "darts",
        "space": "darts",
        "data": "digits",
        "seeds": list(seeds),
        "selected_seed": selected["seed"],
        **{
            name: selected[name]
            for name in ("genotype", "architecture", "cost", "search_accuracy", "retrained_accuracy")
        },
        "random_baseline": selected["random"],
        "per_seed": each,
        "summary": {
            "search_accuracy": summary([entry["search_accuracy"] for entry in each]),
            "retrained_accuracy": summary(found),
            "random_accuracy": summary(random),
        },
        "versions": {"jaxnas": "0.1.0", "jax": "0.10.2", "flax": "0.12.4", "python": "3.11.2"},
        "device": "cpu",
        "seconds": {"compile": 41.3, "search": 62.0, "retrain": 74.5},
    }
    default = {
        "seed": seeds[0],
        "epochs": epochs,
        "method": {"name": "darts", "order": 1, "weights_learning_rate": 0.025},
        "space": {"name": "darts", "nodes": nodes, "operations": OPERATIONS},
        "data": {"name": "digits", "path": ""},
    }
    options = {"normal": OPERATIONS, "reduce": OPERATIONS}
    rows = {part: [f"{source} → {node}" for source, node in edges] for part in options}
    return RunRecord(default if config is None else config, result, history, options, edges, rows, retraining)


BLOCKS = (*(f"mbconv_k{kernel}_e{expansion}" for kernel in (3, 5, 7) for expansion in (3, 6)), "zero")
SPACES = {
    "chain": (
        {"blocks": BLOCKS},
        {
            "blocks": [
                f"stage {stage} block {block}"
                for stage, n in enumerate((4, 4, 4, 4, 4, 1), 1)
                for block in range(1, n + 1)
            ]
        },
    ),
    "nas_bench_201": (
        {"cell": ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")},
        {"cell": ["0 → 1", "0 → 2", "1 → 2", "0 → 3", "1 → 3", "2 → 3"]},
    ),
    "kernels": (
        {"kernel": ("3x3", "5x5", "7x7"), "expansion": ("3", "6"), "width": ("0.5", "0.75", "1")},
        {
            "kernel": [f"layer {n}" for n in range(1, 6)],
            "expansion": [f"layer {n}" for n in range(1, 6)],
            "width": ["all layers"],
        },
    ),
}


def signs(record_options, architecture, probabilities):
    """The monitor's signs from architecture {part: [seeds, epochs, choices]} and probabilities."""
    found = {}
    for part, options in record_options.items():
        numbers = architecture[part]
        present = np.stack([(numbers == number).sum(-1) * (name != "none") for number, name in enumerate(options)], -1)
        total = np.maximum(present.sum(-1), 1)
        for kind, counted in (
            ("skips", [name in ("skip_connect", "identity", "zero") for name in options]),
            ("pools", ["pool" in name for name in options]),
        ):
            found[f"{kind}/{part}"] = (present * np.array(counted)).sum(-1) / total
        found[f"dominant/{part}"] = present.max(-1) / total
        values = probabilities[part]
        found[f"entropy/{part}"] = -(values * np.log(values)).sum(-1)
    return found


def make_other_record(space="chain", seeds=(0, 1), epochs=12, stages=(), extras=True):
    """A run in one of `SPACES`: nothing is retrained, but a table and the supernet's weights tell accuracies."""
    rng = np.random.default_rng(0)
    options, rows = SPACES[space]
    count = len(seeds)
    values, chosen, texts = {}, {}, [[] for _ in seeds]
    for part, names in options.items():
        drift = rng.normal(size=(count, 1, len(rows[part]), len(names)))
        logits = np.linspace(0, 3, epochs)[:, None, None] * drift + 0.2 * rng.normal(
            size=(count, epochs, *drift.shape[2:])
        )
        weights = np.exp(logits)
        values[part] = weights / weights.sum(-1, keepdims=True)
        chosen[part] = values[part].argmax(-1).astype(np.int32)
        for at in range(count):
            texts[at].append(f"{part}:{'+'.join(names[number] for number in chosen[part][at, -1])}")
    history = {f"probabilities/{part}": each for part, each in values.items()}
    history |= {f"architecture/{part}": each for part, each in chosen.items()}
    history |= signs(options, chosen, values)
    history |= {
        "train_loss": curve(rng, count, epochs, 2.3, 0.25, 0.03),
        "valid_loss": curve(rng, count, epochs, 2.3, 0.38, 0.05),
        "valid_accuracy": curve(rng, count, epochs, 0.1, 0.93, 0.015),
        "entropy": np.mean([history[f"entropy/{part}"].mean(-1) for part in options], axis=0),
    }
    true, table = {}, {}
    if extras:
        cost = curve(rng, count, epochs, 30, 21, 0.4)
        cost[:, :3] = np.nan
        history |= {"logits_cost": cost, "curvature": abs(curve(rng, count, epochs, 0.02, 0.04, 0.004))}
        true, table = {"accuracy": curve(rng, count, epochs, 0.7, 0.91, 0.01)}, {"best": 0.9437, "mean": 0.8706}
    each = [
        {
            "seed": seed,
            "search_accuracy": float(history["valid_accuracy"][at, -1]),
            "genotype": ";".join(texts[at]),
            "architecture": ";".join(texts[at]),
            "cost": {
                "params": 41_000 + 1000 * at,
                "mult_adds": 3_100_000,
                **({"latency": 20.5 + at} if extras else {}),
            },
            "retrained_accuracy": None,
            **({"inherited_accuracy": 0.88 + 0.01 * at, "true_accuracy": 0.9 + 0.01 * at} if extras else {}),
        }
        for at, seed in enumerate(seeds)
    ]
    result = {
        "method": "proxylessnas",
        "space": space,
        "data": "digits",
        "seeds": list(seeds),
        "selected_seed": seeds[0],
        "cost": each[0]["cost"],
        "per_seed": each,
        "summary": {"retrained_accuracy": {"mean": None, "std": None}, "random_accuracy": {"mean": None, "std": None}},
        "seconds": {"compile": 41.3, "search": 62.0, "retrain": 0.0},
        **({"table_metric": "CIFAR-10 test accuracy"} if extras else {}),
    }
    config = {"seed": seeds[0], "epochs": epochs, "space": {"name": space}}
    return RunRecord(
        config,
        result,
        history,
        options,
        (),
        rows,
        {},
        stages=stages,
        true=true,
        table=table,
        cost_unit="ms" if extras else "",
    )
