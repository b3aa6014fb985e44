"""Sweeps of several parts that are trained and reported one by one."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from experiments.sweeps._dose import DoseConfig
from experiments.sweeps._records import finished_records
from experiments.sweeps._sweep import Arm, Sweep
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.reports import RunRecord

Name = TypeVar("Name", bound=str)
Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class SittingsConfig(DoseConfig):
    """A sweep of which a part may be trained now."""

    known: ClassVar[Sequence[str]] = ()
    """The names of all arms."""
    planned: int = 12
    """Seeds that a verdict needs; fewer are reported without one."""
    arms: tuple[str, ...] = ()
    """Arms to train now, with those that they wait for; none: all of the parts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted({*self.arms} - {*self.known})
        if unknown:
            raise PGPOValueError(f"arms must be some of {', '.join(self.known)}, got {unknown}")


def asked_for(made: Sequence[Arm], names: Collection[str], seed: int) -> list[Arm]:
    """The arms of some names, and those that they need, in their order.

    An arm is called `place-name`; the name counts.

    Args:
        made: all arms.
        names: of those that are asked for; none: all.
        seed: one of the sweep's; what an arm needs is asked for it.
    """
    if not names:
        return list(made)
    by_name = {arm.name: arm for arm in made}
    wanted = {arm.name for arm in made if arm.name.partition("-")[2] in names}
    todo = sorted(wanted)
    while todo:
        needed = {name for name, _ in by_name[todo.pop()].needs(seed)} - wanted
        wanted |= needed
        todo += needed
    return [arm for arm in made if arm.name in wanted]


def finished_part(sweep: Sweep, config: Any) -> tuple[list[int], dict[str, list[RunRecord]]] | None:
    """The seeds and runs of a part of a sweep; `None` with fewer than 2 seeds with all its arms.

    Args:
        sweep: whose folder it is.
        config: of the part.
    """
    part = dataclasses.replace(sweep, config=config)
    return finished_records(part) if len(part.complete_seeds()) > 1 else None


def parts_found(
    sweep: Sweep, names: Sequence[Name], find: Callable[[Name], Part | None], what: str
) -> dict[Name, Part]:
    """The parts that are whole.

    Args:
        sweep: whose folder it is.
        names: of the parts.
        find: what is found of a part, `None` if it is not whole.
        what: a part is, and of which arms, for the error.

    Raises:
        ValueError: if there is none.
    """
    found = {name: part for name in names if (part := find(name)) is not None}
    if not found:
        raise PGPOValueError(
            f"{sweep.folder} needs at least 2 seeds with all arms of {what}, has none"
        )
    return found
