from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nightfit.batch import Array
from nightfit.gate import Evidence, GateConfig, decide

CONFIG = GateConfig()
NONE = np.zeros(0)


def losses(mean: float, n: int, seed: int = 0) -> Array:
    """Draw losses like those of a model: positive, skewed."""
    return np.random.default_rng(seed).exponential(mean, n)


def evidence(tonight: float = 0.0, memory: float = 0.0, *, n: int = 1000, n_memory: int = 1000) -> Evidence:
    """Make evidence in which the candidate's losses are shifted by these shares of the champion's mean loss of 0.5."""
    noise = np.random.default_rng(5).normal(0, 0.05, n + n_memory)
    noise = noise - noise.mean() if len(noise) else noise
    t, m = losses(0.5, n, 1), losses(0.5, n_memory, 2)
    return Evidence(
        tonight_candidate=t + 0.5 * tonight + noise[:n],
        tonight_champion=t,
        memory_candidate=m + 0.5 * memory + noise[n:],
        memory_champion=m,
    )


def test_the_first_is_accepted_if_it_is_finite() -> None:
    """Without a champion there is nothing to be worse than; what is not finite is refused even so."""
    assert decide(Evidence(has_champion=False), CONFIG).verdict == "accepted: it is the first"
    refused = decide(Evidence(broken="its weights are odd", has_champion=False), CONFIG)
    assert (refused.accepted, refused.reason) == (False, "broken")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_predicts_nonsense_is_broken(bad: float) -> None:
    """Losses that are not finite are no evidence for anything but a broken candidate."""
    e = evidence()
    e.tonight_candidate[3] = bad
    decision = decide(e, CONFIG, override="I insist")
    assert (decision.accepted, decision.reason) == (False, "broken"), "a person cannot accept it either"


def test_identical_models_are_never_refused() -> None:
    """A candidate that predicts as the champion does is accepted, whatever the rows."""
    for seed in range(200):
        same = losses(0.5, 300, seed)
        assert decide(Evidence(same, same, same, same), CONFIG).accepted


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_clearly_worse_candidate_is_always_refused(share: float) -> None:
    """Worse by a fifth of the loss, on a thousand noisy rows, is seen in each of 200 nights."""
    for seed in range(200):
        champion, noise = losses(0.5, 1000, seed), np.random.default_rng(seed).normal(0, 0.3, 1000)
        assert decide(Evidence(champion + 0.5 * share + noise, champion), CONFIG).reason == "worse"


@pytest.mark.parametrize("n", [200, 1000])
def test_false_refusals_are_rare(n: int) -> None:
    """Of 2,000 nights whose candidate is exactly as good as its champion, fewer than 5 % are refused."""
    random, n_refused = np.random.default_rng(11), 0
    for _ in range(2000):
        row, ours, theirs = random.exponential(0.5, n), random.exponential(0.2, n), random.exponential(0.2, n)
        n_refused += not decide(Evidence(row + ours, row + theirs), CONFIG).accepted
    assert n_refused < 100


def test_too_few_rows_are_no_evidence() -> None:
    """Below 200 held-out rows, tonight and earlier ones together, even a much worse candidate is accepted."""
    few = decide(evidence(3.0, 3.0, n=100, n_memory=99), CONFIG)
    assert few.accepted
    assert few.verdict == "accepted: not enough evidence, 199 held-out rows of the 200 needed"
    assert decide(evidence(3.0, 3.0, n=100, n_memory=100), CONFIG).reason == "worse"
    assert decide(Evidence(), CONFIG).accepted, "and none at all are not either"


def test_the_margin_is_allowed() -> None:
    """A candidate that is surely worse, but by less than the margin, is accepted."""
    champion = losses(0.5, 1000)
    for share, accepted in ((0.009, True), (0.011, False)):
        candidate = champion + share * champion.mean()
        assert decide(Evidence(candidate, champion), CONFIG).accepted is accepted
    assert decide(Evidence(champion * 1.2, champion), GateConfig(margin=1.0)).accepted


def test_next_to_nothing_is_no_difference() -> None:
    """Where the champion hardly errs, a share of its loss is no difference that anyone would notice."""
    champion = np.full(1000, 1e-6)
    assert decide(Evidence(champion * 3, champion), CONFIG).accepted
    assert decide(Evidence(champion + 0.01, champion), CONFIG).reason == "worse"


def test_forgetting_is_refused_until_later_rows_decide() -> None:
    """Better tonight, worse on earlier nights: refused for now, before the pooled rule, until later rows decide."""
    e, later = evidence(-0.5, 0.1), losses(0.5, 300)
    decision = decide(e, CONFIG)
    assert (decision.accepted, decision.reason) == (False, "forgetting")
    assert decision.verdict.startswith("refused for now: it is better on tonight's rows, log loss -")
    assert decision.verdict.endswith("if it predicts the next rows better, of which 200 are needed")
    early = decide(replace(e, kept_candidate=later[:50], kept_champion=later[:50]), CONFIG)
    assert early.verdict.endswith("of which 150 more are needed")
    against = decide(replace(e, kept_candidate=later * 1.5, kept_champion=later), CONFIG)
    assert (against.accepted, against.reason) == (False, "forgetting")
    assert "; the candidate kept before has log loss +50.0%" in against.verdict
    assert decide(replace(e, kept_candidate=later * 0.5, kept_champion=later), CONFIG).accepted


def test_forgetting_needs_evidence() -> None:
    """Under 200 earlier rows, a loss within the forgetting margin, a night that got worse: other rules decide."""
    assert decide(evidence(-0.5, 0.5, n_memory=199), CONFIG).reason == "accepted"
    assert decide(evidence(-0.5, 0.04), CONFIG).reason == "accepted"
    assert decide(evidence(0.1, 0.5), CONFIG).reason == "worse"
    assert decide(evidence(-0.5, 0.2), GateConfig(forgetting_margin=0.3)).reason == "accepted"


def test_a_real_change_is_confirmed() -> None:
    """If the kept candidate predicts 200 later rows better than the champion, earlier nights have no say any more."""
    later = losses(0.5, 200)
    e = replace(evidence(-0.5, 5.0), kept_candidate=later * 0.8, kept_champion=later)
    decision = decide(e, CONFIG)
    assert (decision.accepted, decision.reason) == (True, "confirmed")
    assert decision.verdict.startswith("accepted: the change is real, the candidate refused before has log loss -20.0%")
    for kept, champion in ((later[1:] * 0.8, later[1:]), (later * 1.01, later)):
        other = decide(replace(e, kept_candidate=kept, kept_champion=champion), CONFIG)
        assert other.reason == "forgetting", "199 rows do not confirm, and a worse candidate is not confirmed"


def test_a_verdict_says_whether_it_is_better() -> None:
    """Accepted is not yet better: the sentence says so only if the interval does."""
    assert decide(evidence(-0.2, -0.2), CONFIG).verdict.startswith("accepted: it is better, log loss -")
    assert decide(evidence(), CONFIG).verdict.startswith("accepted: no evidence that it is worse, log loss ")


def test_a_person_may_accept() -> None:
    """`--accept` overrides a refusal, with the reason in the verdict; what is accepted anyway needs no override."""
    decision = decide(evidence(0.5, 0.5), CONFIG, override="new sensor")
    assert (decision.accepted, decision.reason) == (True, "override")
    assert decision.verdict.startswith("accepted by hand (new sensor), against the gate: it is worse, log loss +")
    assert decision.figures["override"] == "new sensor"
    assert decide(evidence(), CONFIG, override="new sensor").reason == "accepted"


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_figures_are_json(n: int) -> None:
    """The figures of a night of any size can be written as JSON, and have the sets that have rows."""
    figures = decide(evidence(n=n, n_memory=2 * n), CONFIG).figures
    json.dumps(figures, allow_nan=False)
    assert set(figures) == ({"tonight", "memory", "pooled"} if n else set())


def test_nonsense_settings_are_refused() -> None:
    """Margins below zero or NaN, and a single row as evidence, are no settings."""
    for options in ({"margin": -0.1}, {"forgetting_margin": float("nan")}, {"margin": float("nan")}, {"min_rows": 1}):
        with pytest.raises(ValueError, match="at least"):
            GateConfig(**options)


def shown(champion_right: float = 0.8, flipped: float = 0.0, n: int = 2000) -> Evidence:
    """Make evidence of equal losses, in which a share of the rows flips from right to wrong."""
    same, right = losses(0.5, n), np.arange(n) < champion_right * n
    scores = {"accuracy": champion_right - flipped, "log_loss": 0.5}
    return Evidence(
        same, same,
        right_candidate=right & (np.arange(n) >= flipped * n), right_champion=right,
        scores=scores, champion_scores=scores | {"accuracy": champion_right},
    )  # fmt: skip


def test_a_floor_holds_for_every_version() -> None:
    """Past its floor a candidate is refused, the first one too, however the champion does; but not on too few rows."""
    e, floored = shown(0.65), GateConfig(floors={"accuracy": 0.7, "log_loss": 0.9})
    decision = decide(e, floored)
    assert (decision.accepted, decision.reason) == (False, "floor")
    assert decision.verdict == (
        "refused: accuracy 0.65 is below the floor of 0.7 (the champion has 0.65), on 2,000 held-out rows"
    )
    assert decide(replace(e, champion_scores={}, has_champion=False), floored).reason == "floor"
    assert decide(shown(0.7), floored).accepted
    assert decide(shown(0.65, n=150), floored).verdict.startswith("accepted: not enough evidence")
    assert decide(replace(shown(0.65, n=150), has_champion=False), floored).accepted
    assert decide(e, floored, override="known").verdict.startswith("accepted by hand (known), against the gate: acc")


def test_flips_are_always_reported_and_refused_if_asked() -> None:
    """The share of rows that flipped is among the figures; above the budget, with evidence, it refuses."""
    e = shown(flipped=0.05)
    figures: Any = decide(e, CONFIG).figures
    assert (figures["flips"]["negative"]["mean"], figures["flips"]["positive"]) == (0.05, 0.0)
    assert decide(e, GateConfig(max_negative_flips=0.045)).accepted, "0.05 may be 0.045 on other rows"
    decision = decide(e, GateConfig(max_negative_flips=0.03))
    assert decision.reason == "flips"
    assert decision.verdict.startswith(
        "refused: 5.0% of the 2,000 held-out rows were right and are wrong now (at least 4"
    )


def test_a_slice_may_not_get_worse() -> None:
    """A candidate that is as good as a whole and worse where a column has one value is refused, naming that value."""
    champion = losses(0.5, 3000)
    candidate = champion.copy()
    candidate[:300] *= 1.4
    candidate[300:] *= 0.9
    slices = {"country is PRT": np.arange(300), "country is ESP": np.arange(300, 3000)}
    e = Evidence(candidate[:1000], champion[:1000], candidate[1000:], champion[1000:], slices=slices)
    assert decide(replace(e, slices={}), CONFIG).accepted
    decision = decide(e, CONFIG)
    assert (decision.accepted, decision.reason) == (False, "slice")
    assert decision.verdict.startswith("refused: it is worse where country is PRT, log loss +40.0% (+3")
    assert decision.verdict.endswith("on 300 held-out rows")
    assert decide(e, GateConfig(slice_margin=0.5)).accepted
    figures: Any = decision.figures
    assert set(figures["slices"]) == set(slices)
    json.dumps(figures, allow_nan=False)


def test_a_confirmed_change_must_meet_the_demands_too() -> None:
    """Rows that came since overrule the earlier nights, but no floor."""
    later = losses(0.5, 200)
    e = replace(shown(0.65), kept_candidate=later * 0.8, kept_champion=later)
    assert decide(e, GateConfig(floors={"accuracy": 0.7})).reason == "floor"
    assert decide(e, CONFIG).reason == "confirmed"


def test_what_ends_a_concept_starts_the_memory_anew() -> None:
    """After a confirmed change, or forgetting that a person accepts, earlier nights' rows judge no later night."""
    later = losses(0.5, 200)
    forgets = evidence(-0.5, 5.0)
    assert decide(replace(forgets, kept_candidate=later * 0.8, kept_champion=later), CONFIG).starts_anew
    assert decide(forgets, CONFIG, override="new sensor").starts_anew
    assert not decide(evidence(), CONFIG).starts_anew
    assert not decide(evidence(0.5, 0.5), CONFIG, override="known").starts_anew
