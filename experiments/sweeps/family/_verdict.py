"""What is compared in each objective, and the verdicts that `experiments.family` fixes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.sweeps._compare import Comparison, compare
from experiments.sweeps._power import FEWEST_SEEDS
from experiments.sweeps._records import SETTLED, Records, scores
from experiments.sweeps._sittings import finished_part
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.family._arms import ARMS, MULTIPLIERS, OBJECTIVES, Config, ObjectiveName

Helps = Literal["helps", "refuted", "undecided", "too few seeds"]
PAIRS = tuple(
    (multiplier, other)
    for multiplier, constant in MULTIPLIERS.items()
    for other in ("alone", constant)
)
_SOME, _MOST = 2, 4


@dataclass(frozen=True)
class Found:
    """What the runs of an objective say.

    Attributes:
        name: of the objective.
        seeds: those at which all arms are finished.
        records: the runs at these seeds, by arm.
        compared: the family of `PAIRS`.
    """

    name: str
    seeds: Sequence[int]
    records: Records
    compared: Sequence[Comparison]

    def helps(self, multiplier: str, planned: int) -> Helps:
        """Whether a multiplier helps this objective, and more than a constant of its mean."""
        if len(self.seeds) < max(planned, FEWEST_SEEDS):
            return "too few seeds"
        said = {c.name: c.verdict for c in self.compared}
        constant = said[f"{multiplier} − {MULTIPLIERS[multiplier]}"]
        if constant == "better" and said[f"{multiplier} − alone"] == "better":
            return "helps"
        return "refuted" if constant in ("worse", "no difference that matters") else "undecided"


def found_in(config: Config, sweep: Sweep, name: ObjectiveName) -> Found | None:
    """What an objective's finished runs say; `None` with fewer than 2 seeds with all arms."""
    part = finished_part(sweep, dataclasses.replace(config, objectives=(name,), arms=()))
    if part is None:
        return None
    seeds, records = part
    return measured(name, seeds, {a: records[f"{name}-{a}"] for a in ARMS}, margin=config.margin)


def measured(name: str, seeds: Sequence[int], runs: Records, *, margin: float) -> Found:
    """The comparisons of an objective's arms."""
    return Found(name, seeds, runs, compare(scores(runs, SETTLED), PAIRS, margin=margin))


def of_the_family(found: Mapping[str, Found], multiplier: str, planned: int) -> Helps:
    """Whether a multiplier helps the family, once all six objectives are whole."""
    each = [part.helps(multiplier, planned) for part in found.values()]
    if len(each) < len(OBJECTIVES) or "too few seeds" in each:
        return "too few seeds"
    if each.count("helps") >= _SOME:
        return "helps"
    return "refuted" if each.count("refuted") >= _MOST else "undecided"
