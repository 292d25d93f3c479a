"""What every config of a lab experiment has."""

from ml_collections import ConfigDict

# What the experiments that compare the gradients of several estimators on students of several widths start from.
COMPARISON = {
    "task": "teacher",  # of the student's own shape; or "digits", images that are classified by least squares
    "dims": (2, 4, 8, 16, 32, 64),
    "inits": 3,
    "batches": 10,
    "batch_size": 160_000,
    "layers": 3,
    "students": ("raw", "pretrained"),
    "pretraining": 500,  # steps
    "estimators": ("ste", "ste_steep", "ste_swish", "ste_polynomial", "cdg", "nes_500", "smoothed"),
    "sigma": 0.1,
    "epsilon": 0.1,
}
SMALL_COMPARISON = {"dims": (4, 16), "inits": 2, "batches": 2, "batch_size": 4000}


def experiment(name: str, question: str, settings: dict, when_small: dict) -> ConfigDict:
    """The config of one experiment; `when_small` are the settings that `--config.small=True` replaces."""
    return ConfigDict(
        {
            "experiment": name,
            "question": question,  # what the report says that it asks
            "seed": 0,
            "small": False,
            "settings": settings,
            "when_small": when_small,
            "checkpoint": {"every_seconds": 60.0, "keep": 2},
        }
    )
