"""Checks of nightfit's contracts, for its own tests and for those of plug-in authors.

Each check raises `AssertionError` with the rule that was broken. They need no test framework.
"""

from nightfit.testing.learners import (
    check_learner,
    model_of,
    random_night,
    saved_and_loaded,
    schema_of,
    widened,
)
from nightfit.testing.sources import check_source

__all__ = [
    "check_learner",
    "check_source",
    "model_of",
    "random_night",
    "saved_and_loaded",
    "schema_of",
    "widened",
]
