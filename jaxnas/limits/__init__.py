"""What every field of a config has to be: its type and its limit, checked before anything is built from it."""

from jaxnas.limits.evaluation import check_evaluation_fields
from jaxnas.limits.experiments import check_comparison_fields, check_lab_fields, check_tabular_fields
from jaxnas.limits.kinds import Config
from jaxnas.limits.search import check_fields
from jaxnas.limits.specialization import check_specialization_fields

__all__ = [
    "Config",
    "check_comparison_fields",
    "check_evaluation_fields",
    "check_fields",
    "check_lab_fields",
    "check_specialization_fields",
    "check_tabular_fields",
]
