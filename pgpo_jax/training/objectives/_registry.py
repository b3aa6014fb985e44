"""Objectives by name, as a configuration names them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.tasks import is_object_spec, load_object
from pgpo_jax.training.config import (
    DriftConfig,
    InformationConfig,
    LossConfig,
    PolicyConfig,
    ReopoldConfig,
    RlcsdConfig,
    RltfConfig,
    TeacherConfig,
)
from pgpo_jax.training.objectives._base import Objective
from pgpo_jax.training.objectives._drift import DRIFT
from pgpo_jax.training.objectives._grpo import GRPO
from pgpo_jax.training.objectives._opcd import OPCD
from pgpo_jax.training.objectives._opd import OPD
from pgpo_jax.training.objectives._opsd import OPSD
from pgpo_jax.training.objectives._reopold import REOPOLD
from pgpo_jax.training.objectives._rlcsd import RLCSD
from pgpo_jax.training.objectives._rlsd import RLSD
from pgpo_jax.training.objectives._rltf import RLTF
from pgpo_jax.training.objectives._sdft import SDFT
from pgpo_jax.training.objectives._sdpo import SDPO
from pgpo_jax.training.objectives._sft import SFT
from pgpo_jax.training.objectives._srpo import SRPO
from pgpo_jax.training.objectives._taught import Taught


class ObjectiveSections(NamedTuple):
    """The sections of a configuration that objectives are made from.

    Added in version 0.2.0.
    """

    teacher: TeacherConfig
    loss: LossConfig
    information: InformationConfig
    reopold: ReopoldConfig = ReopoldConfig()
    policy: PolicyConfig = PolicyConfig()
    drift: DriftConfig = DriftConfig()
    rltf: RltfConfig = RltfConfig()
    rlcsd: RlcsdConfig = RlcsdConfig()

    @property
    def taught(self) -> tuple[TeacherConfig, LossConfig, InformationConfig]:
        """Those of every objective with a teacher."""
        return self.teacher, self.loss, self.information


def _sdpo(sections: ObjectiveSections) -> SDPO:
    return SDPO(*sections.taught)


def _opsd(sections: ObjectiveSections) -> OPSD:
    return OPSD(*sections.taught)


def _sdft(sections: ObjectiveSections) -> SDFT:
    return SDFT(*sections.taught)


def _opcd(sections: ObjectiveSections) -> OPCD:
    return OPCD(*sections.taught)


def _rlsd(sections: ObjectiveSections) -> RLSD:
    return RLSD(*sections.taught, sections.policy)


def _rlcsd(sections: ObjectiveSections) -> RLCSD:
    if sections.teacher.feedback:
        raise PGPOValueError(
            "teacher.feedback must be False with objective 'rlcsd', whose teacher is shown the "
            "answers of peers, got True"
        )
    return RLCSD(*sections.taught, sections.policy, sections.rlcsd)


def _srpo(sections: ObjectiveSections) -> SRPO:
    return SRPO(*sections.taught, sections.policy)


def _drift(sections: ObjectiveSections) -> DRIFT:
    return DRIFT(*sections.taught, sections.policy, sections.drift)


def _opd(sections: ObjectiveSections) -> OPD:
    _check_external("opd", sections.teacher)
    return OPD(*sections.taught)


def _reopold(sections: ObjectiveSections) -> REOPOLD:
    _check_external("reopold", sections.teacher)
    wanted = {"form": "advantage", "support": "sampled", "reduction": "token_mean"}
    wanted["weight"] = "none"
    for name, value in wanted.items():
        given = getattr(sections.loss, name)
        if given != value:
            raise PGPOValueError(
                f"loss.{name} must be {value!r} with objective 'reopold', whose reward is that of "
                f"the sampled token, as a mean over the tokens that train; got {given!r}"
            )
    return REOPOLD(*sections.taught, sections.reopold)


def _check_external(name: str, teacher: TeacherConfig) -> None:
    """Refuses a teacher that is not another model, and what is shown to none."""
    if teacher.kind != "external":
        raise PGPOValueError(
            f"teacher.kind must be 'external' with objective {name!r}, which learns from another "
            f"model (--teacher.model FOLDER), got {teacher.kind!r}"
        )
    for setting in ("feedback", "thinking"):
        if getattr(teacher, setting):
            raise PGPOValueError(
                f"teacher.{setting} must be False with objective {name!r}, whose teacher reads the "
                "student's own prompt, got True"
            )


def _grpo(sections: ObjectiveSections) -> GRPO:
    _check_without_teacher("grpo", sections)
    return GRPO(sections.loss)


def _sft(sections: ObjectiveSections) -> SFT:
    _check_without_teacher("sft", sections)
    return SFT(sections.loss)


def _rltf(sections: ObjectiveSections) -> RLTF:
    _check_without_teacher("rltf", sections)
    return RLTF(sections.loss, sections.rltf)


def _check_without_teacher(name: str, sections: ObjectiveSections) -> None:
    if sections.teacher.kind == "external":
        raise PGPOValueError(
            f"teacher.model must be unset with objective {name!r}, which has no teacher, "
            f"got {sections.teacher.model!r}"
        )
    if sections.teacher.feedback:
        raise PGPOValueError(
            f"teacher.feedback must be False with objective {name!r}, which shows nothing to a "
            f"teacher, got {sections.teacher.feedback}"
        )
    if sections.loss.modulation != "none":
        raise PGPOValueError(
            f"loss.modulation must be 'none' with objective {name!r}, which measures no "
            f"information, got {sections.loss.modulation!r}"
        )
    if sections.loss.weight != "none":
        raise PGPOValueError(
            f"loss.weight must be 'none' with objective {name!r}: it weighs what a teacher says, "
            f"got {sections.loss.weight!r}"
        )


OBJECTIVES: dict[str, Callable[[ObjectiveSections], Objective]] = {
    "sdpo": _sdpo,
    "grpo": _grpo,
    "sft": _sft,
    "opd": _opd,
    "reopold": _reopold,
    "opsd": _opsd,
    "sdft": _sdft,
    "rlsd": _rlsd,
    "rlcsd": _rlcsd,
    "srpo": _srpo,
    "opcd": _opcd,
    "drift": _drift,
    "rltf": _rltf,
}
"""Objectives by name; each is made from the sections of a configuration.

Added in version 0.2.0.
"""


def make_objective(name: str, sections: ObjectiveSections) -> Objective:
    """The objective of a configuration.

    Args:
        name: one of `OBJECTIVES`, or `FILE.py:NAME`: a class or function of your own, which is
            called with the sections.
        sections: of the configuration.

    Raises:
        ValueError: an unknown name, or settings that contradict the objective.
        TypeError: what `FILE.py:NAME` gives is no objective.

    >>> from pgpo_jax.training import InformationConfig, LossConfig, TeacherConfig
    >>> sections = ObjectiveSections(TeacherConfig(), LossConfig(), InformationConfig())
    >>> type(make_objective("grpo", sections)).__name__
    'GRPO'

    Added in version 0.2.0.
    """
    if is_object_spec(name):
        make: Any = load_object(name)
        if not callable(make):
            raise PGPOTypeError(
                f"{name} must be a class or function that is called with the sections, got {make!r}"
            )
        made: Any = make(sections)
        if not isinstance(made, Objective):
            raise PGPOTypeError(
                f"{name} must make an Objective, which is easiest by inheriting from "
                f"pgpo_jax.training.Objective, got {type(made).__name__}"
            )
        for part in ("prepare", "loss_of_rows"):
            if getattr(type(made), part, None) is getattr(Objective, part):
                raise PGPOTypeError(f"{name} must define {part}, which {type(made).__name__} lacks")
        if sections.loss.weight != "none" and not isinstance(made, Taught):
            raise PGPOValueError(
                f"loss.weight must be 'none' with {name}: it weighs what the teacher of a Taught "
                f"says, and {type(made).__name__} is none; got {sections.loss.weight!r}"
            )
        return made
    if name not in OBJECTIVES:
        raise PGPOValueError(
            f"objective must be one of {', '.join(OBJECTIVES)} or FILE.py:NAME, got {name!r}"
        )
    return OBJECTIVES[name](sections)
