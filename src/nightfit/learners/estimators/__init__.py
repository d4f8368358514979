"""scikit-learn's incremental estimators: one protocol (`part`), and what each of them keeps between nights."""
