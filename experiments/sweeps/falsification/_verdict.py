"""The verdict of the falsification test."""

from collections.abc import Sequence

from experiments.sweeps._compare import Comparison
from experiments.sweeps._power import too_few
from experiments.sweeps.falsification._arms import MATCHED


def decide(comparisons: Sequence[Comparison], margin: float) -> str:
    """The verdict of the docstring, in words."""
    by_name = {c.name: c for c in comparisons}
    matched = [by_name[f"real − {name}"] for name in MATCHED]
    by_control = {name: c.verdict for name, c in zip(MATCHED, matched, strict=True)}
    count = matched[0].seeds
    if refused := too_few(count):
        return refused
    if all(c.verdict == "better" for c in matched):
        return (
            f"The information is the cause: with {count} seeds the real signal is better than "
            "every matched control."
        )
    if all(c.verdict == "no difference that matters" for c in matched):
        return (
            f"The information is not the cause at this scale: with {count} seeds the real signal "
            f"differs from every matched control by less than {margin:g}."
        )
    found = "; ".join(
        f"{verdict}: {', '.join(name for name in MATCHED if verdict == by_control[name])}"
        for verdict in dict.fromkeys(by_control.values())
    )
    enough = [n for n in (_seeds_for_all(matched, better) for better in (True, False)) if n]
    seeds = f"{min(enough)} seeds" if enough else "No number of seeds"
    return (
        f"Undecided with {count} seeds (real against its matched controls: {found}). {seeds} would "
        "settle all five alike with 80 % power, if the differences are what they seem."
    )


def _seeds_for_all(matched: Sequence[Comparison], better: bool) -> int | None:
    """Seeds at which all are better, or all within the margin; `None` if no number does it."""
    if better and not all(c.difference.value > 0 for c in matched):
        return None
    needed = [c.seeds_beside_zero if better else c.seeds_within_margin for c in matched]
    return None if None in needed else max(n for n in needed if n)
