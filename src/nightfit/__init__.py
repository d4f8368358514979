"""nightfit keeps tabular models fresh: each night it learns the rows that are new, and nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightfit.estimators import IncrementalMLPClassifier, IncrementalMLPRegressor

__version__ = "0.1.0"
__all__ = ["IncrementalMLPClassifier", "IncrementalMLPRegressor", "__version__"]


def __getattr__(name: str) -> object:
    """Import scikit-learn's face when it is first asked for: nothing else here may wait for torch."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("nightfit.estimators"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
