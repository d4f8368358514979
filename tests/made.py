"""Results of comparisons, made up: for the report's tests, which need every shape that a comparison can have."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

EIGHT = ("deep", "linear", "sgd", "gnb", "sk_mlp", "multinomial_nb", "pca+sgd", "dictionary+sgd")
EVIL = '<script>alert("x")</script>&\''


def result(
    names: Sequence[str] = ("deep", "linear"),
    n_nights: int = 43,
    *,
    task: str = "classification",
    failed: Collection[str] = (),
    drifts: Sequence[int] = (),
    dated: bool = False,
    far: str = "",
    bare: bool = False,
) -> dict[str, Any]:
    """Return what a comparison may return.

    The k-th model loses 12 k percent more than the first, and `far` twenty times as much. `failed` stop after a third
    of the nights; `dated` nights were cut by a column of times; a `bare` result has what no comparison ever lacked.
    """
    rng = np.random.default_rng(0)
    score = "log_loss" if task == "classification" else "rmse"
    base = {name: 0.27 * (20 if name == far else 1 + 0.12 * k) for k, name in enumerate(names)}
    nights = []
    for i in range(n_nights):
        level = 1 + 0.3 * math.sin(i / 9)
        there = [name for name in names if name not in failed or i <= n_nights // 3]
        losses = {name: base[name] * level * (1 + 0.1 * float(rng.normal())) for name in there}
        scores = {name: {score: loss, "accuracy": math.exp(-loss)} for name, loss in losses.items()}
        nights.append({"night": i + 2, "rows": 1000, "period": _day(i) if dated else None, "models": scores})
    whole: dict[str, Any] = {
        "task": task, "rows": 1000 * n_nights, "nights": n_nights, "left_out": 0, "device": "cpu (as asked)",
        "classes": "declared", "seed": 0, "per_night": nights,
        "models": {name: _model(base[name], k, score, n_nights, bare=bare) for k, name in enumerate(names)},
    }  # fmt: skip
    for name in failed:
        whole["models"][name] = {"failed": "it must learn, however its weights are not finite"}
    return whole if bare else whole | _statistics(whole, score, [n for n in names if n not in failed], drifts)


def _day(i: int) -> str:
    return str(np.datetime64("2026-01-01T00:00:00") + np.timedelta64(i, "D"))


def _model(loss: float, k: int, score: str, n_nights: int, *, bare: bool) -> dict[str, Any]:
    more = {"accuracy": math.exp(-loss), "macro_f1": 0.9 * math.exp(-loss), "calibration_error": 0.01 + 0.01 * k}
    cost = {"learn_cpu_s": 0.2 * n_nights / (k + 1), "predict_cpu_s": 0.01 * n_nights, "rows": 1000 * n_nights}
    scores = {score: loss, **(more if score == "log_loss" else {"mae": 0.7 * loss, "r2": 1 - loss}), **cost}
    bins = [
        {"confidence": (b + 0.5) / 15, "accuracy": min((b + 0.5) / 15 + 0.02 * k, 1), "rows": 10 * b} for b in range(15)
    ]
    told = {"peak_mib": 120.0 + k, "disk_bytes": 1 << 20, "retrain_s": 2300.0, "kind": "mlp",
            "reliability": bins if score == "log_loss" else [], "forgetting": 0.01 * k, "recovery_nights": None,
            "negative_flips": 0.02 * k if k else None, "config": {"d_hidden": 64}, "failed": None}  # fmt: skip
    return scores if bare else scores | told


def _statistics(whole: dict[str, Any], score: str, names: Sequence[str], drifts: Sequence[int]) -> dict[str, Any]:
    power = 2 if score == "rmse" else 1
    losses = {name: whole["models"][name][score] ** power for name in names}
    best = min(losses, key=losses.__getitem__)
    pairs = [_pair(a, b, losses) for b in dict.fromkeys((names[0], best)) for a in names if a != b]
    return {
        "score": score, "seeds": [0, 1, 2], "reference": names[0], "pairs": pairs, "best": best,
        "verdict": f"Take {best}: so the comparison says.",
        "drifts": [{"night": night, "why": "the error rose from 0.27 to 0.41"} for night in drifts],
        "protocol": {"cut": "1,000 rows of each source", "label_delay": 0, "warm_up": 1, "margin": 0.01,
                     "block_nights": 3.5, "n_resamples": 2000},
        "costs": {name: {"tonight_s": 0.2 / (k + 1), "retrain_s": 2300.0, "ratio": 1e4, "text": None}
                  for k, name in enumerate(names)},
        "versions": {"nightfit": "0.1.0", "python": "3.11.2"},
        "command": "nightfit compare bookings.csv --target is_canceled --night-rows 1000",
    }  # fmt: skip


def _pair(model: str, against: str, losses: dict[str, float]) -> dict[str, Any]:
    base, difference = losses[against], losses[model] - losses[against]
    half, margin = 0.015 * base, 0.01 * base
    low, high = difference - half, difference + half
    verdict = "worse" if low > margin else "better" if high < -margin else "unclear"
    return {"model": model, "against": against, "difference": difference, "low": low, "high": high,
            "relative": difference / base, "margin": margin, "verdict": verdict}  # fmt: skip
