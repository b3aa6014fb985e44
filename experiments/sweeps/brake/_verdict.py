"""The verdicts that the docstring of `experiments.brake` fixes."""

from typing import Literal

from experiments.sweeps._power import FEWEST_SEEDS
from experiments.sweeps.brake._found import Found

Saved = Literal["holds", "refuted", "undecided", "nothing to save", "too few seeds"]
Cost = Literal["costs nothing", "costs accuracy", "undecided", "too few seeds"]
Cause = Literal["a signal", "a schedule", "undecided", "nothing to save", "too few seeds"]
_AS_GOOD_AT_MOST = ("no difference that matters", "worse")
# Of SDPO's runs, for there to be something to save; of the brake's, for it not to save them.
_HALF = 0.5


def saves(found: Found, planned: int) -> Saved:
    """Does the brake save runs, and more than a constant of its mean does?

    Args:
        found: in a setting in which SDPO is expected to collapse.
        planned: seeds that a verdict needs.
    """
    if refused := _no_verdict(found, planned):
        return refused
    area = {c.name: c.verdict for c in found.areas_compared}
    fewer = {c.name: c.verdict == "fewer" for c in found.collapses_compared}
    both = [f"brake − {arm}" for arm in ("sdpo", "constant")]
    if all(area[name] == "better" and fewer[name] for name in both):
        return "holds"
    constant = both[1]
    if found.collapsed["brake"].mean() >= _HALF or (
        area[constant] in _AS_GOOD_AT_MOST and not fewer[constant]
    ):
        return "refuted"
    return "undecided"


def costs(found: Found, planned: int) -> Cost:
    """What the brake costs where nothing is wrong."""
    if len(found.seeds) < max(planned, FEWEST_SEEDS):
        return "too few seeds"
    verdict = next(c.verdict for c in found.areas_compared if c.name == "brake − sdpo")
    if verdict == "worse":
        return "costs accuracy"
    return "undecided" if verdict == "undecided" else "costs nothing"


def cause(found: Found, planned: int) -> Cause:
    """Is it the information of this run, or would a schedule do?

    Args:
        found: in a setting in which the moment of the fall differs between runs.
        planned: seeds that a verdict needs.
    """
    if refused := _no_verdict(found, planned):
        return refused
    area = {c.name: c.verdict for c in found.areas_compared}
    if all(area[f"brake − {arm}"] == "better" for arm in ("other", "fitted")):
        return "a signal"
    if any(area[f"brake − {arm}"] in _AS_GOOD_AT_MOST for arm in ("other", "fitted")):
        return "a schedule"
    return "undecided"


def in_words(found: Found, planned: int) -> str:
    """The verdict of a setting, in a sentence."""
    if found.setting.healthy:
        answer = costs(found, planned)
        words = f"the brake {answer}" if answer.startswith("costs") else answer
    elif found.setting.drawn:
        answer = cause(found, planned)
        words = f"what saves is {answer}" if answer.startswith("a ") else answer
    else:
        words = saves(found, planned)
    return f"{found.name}: {words} ({len(found.seeds)} of {planned} seeds)"


def _no_verdict(found: Found, planned: int) -> Literal["too few seeds", "nothing to save"] | None:
    if len(found.seeds) < max(planned, FEWEST_SEEDS):
        return "too few seeds"
    return None if found.collapsed["sdpo"].mean() >= _HALF else "nothing to save"
