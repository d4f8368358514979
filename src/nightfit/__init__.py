"""nightfit keeps tabular models fresh: each night it learns the rows that are new, and nothing twice."""

__version__ = "0.1.0"
