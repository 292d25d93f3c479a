"""The fields that every specialization has. A config file starts from `specialization` and gives requests."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def specialization(search: str, requests: Mapping[str, Mapping[str, Any]]) -> ConfigDict:
    """Requests to a finished search, asked by evolution as Once-for-All publishes it.

    search: the workdir of the search. requests: by label, which names the folder of the network: {"cost": a name,
    "limit": the most that it may be, "table": the latency table where the cost is "latency"}.
    """
    return ConfigDict(
        {
            "search": search,
            "predictor": "",  # the workdir of another search of the same space, whose predictor is asked instead
            "seed": 0,
            "requests": {
                label: {"table": "", **request, "limit": float(request["limit"])} for label, request in requests.items()
            },
            "evolution": {
                "rounds": 500,
                "population": 100,
                "parents": 25,
                "mutants": 50,
                "crossovers": 50,
                "mutation_rate": 0.1,
                "finalists": 10,  # of the best by prediction, judged by the shared weights
            },
            "front": {
                "points": 12,  # of every cost's front, judged by the shared weights; 0: no fronts
                "rounds": 200,
                "population": 100,
                "mutation_rate": 0.1,
                "crossover_rate": 0.5,
            },
            "calibration": 2000,  # training images from which statistics are taken
            "repeats": 10,  # how often networks are timed, where their table was measured here; 0: never
            "data": {"path": ""},  # where the data lie, if not where the search had them
        }
    )
