"""What learns and predicts: one protocol (`base`), one file for each learner, and what they share."""
