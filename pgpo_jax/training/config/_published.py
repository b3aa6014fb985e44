"""The settings of each objective's authors that differ from SDPO's."""

import dataclasses
from typing import Any

from pgpo_jax.training.config._train_config import TrainConfig

_SAMPLED = {"form": "advantage", "support": "sampled", "teacher_weight": 1.0}

PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    # Version 3 of the paper, except for its clip of each word's term, whose value it does not
    # print.
    "opsd": {
        "teacher": {"kind": "frozen"},
        "loss": {
            "teacher_weight": 0.0,
            "support": "full",
            "reduction": "token_mean",
        },
    },
    # As run: Eq. 1 prints the other direction, --loss.teacher-weight 1.
    "sdft": {
        "teacher": {"kind": "ema", "rate": 0.01},
        "loss": {
            "teacher_weight": 0.0,
            "support": "full",
            "rollout_clip": 2.0,
            "rollout_level": "sequence",
            "skip_tokens": 3,
        },
    },
    "rlsd": {
        "teacher": {"kind": "snapshot", "every": 10},
        "loss": {"reduction": "sequence_mean"},
        "policy": {"advantage": "standardised", "mix": 0.5, "mix_steps": 50},
    },
    # As in the configurations of the authors' code. The defaults of the code are others.
    "rlcsd": {
        "teacher": {"kind": "snapshot", "every": 10},
        "loss": {"reduction": "token_mean"},
        "policy": {"advantage": "standardised"},
    },
    # The paper divides the advantage by the standard deviation in one place and not in another.
    "srpo": {
        "teacher": {"kind": "ema"},
        "loss": {"teacher_weight": 0.5, "reduction": "token_mean"},
        "policy": {"advantage": "centred", "entropy_beta": 1.0},
    },
    # As run: the sum over all tokens, here over the number of first answers.
    "rltf": {"loss": {"reduction": "sequence_sum"}},
    # Settings that its pseudo-code does not give are as in SDPO and GRPO.
    "drift": {
        "teacher": {"kind": "ema"},
        "loss": {"teacher_weight": 0.5, "reduction": "sequence_mean"},
        "policy": {"advantage": "centred"},
    },
    # The recipe of Thinking Machines, which sums over all tokens.
    "opd": {"loss": {**_SAMPLED, "reduction": "sequence_sum"}},
    # As run: the sum over the student's 256 most likely words, which is not renormalised.
    "opcd": {
        "teacher": {"kind": "frozen"},
        "loss": {
            "teacher_weight": 1.0,
            "support": "topk_raw",
            "k": 256,
            "reduction": "token_mean",
        },
    },
    "reopold": {"loss": {**_SAMPLED, "reduction": "token_mean"}},
}
"""Settings by objective and section. Batch sizes, lengths and the optimizer do not change.

Added in version 0.2.0.
"""


def with_published(config: TrainConfig, objective: str) -> TrainConfig:
    """A configuration with another objective and the settings of its authors.

    The shipped model knows only the wording of SDPO, so for it `teacher.template` is `sdpo`. If the
    teacher of `config` is another model, it is kept.

    Args:
        config: configuration with all other settings.
        objective: name in `pgpo_jax.training.OBJECTIVES`, or `FILE.py:NAME`.

    Returns:
        The configuration. With an objective that is not in `PUBLISHED` nothing else changes.

    Raises:
        ValueError: settings of `config` that contradict the objective.

    >>> from pgpo_jax.training import PRESETS
    >>> with_published(PRESETS["tiny"], "sdft").teacher.rate
    0.01

    Added in version 0.2.0.
    """
    sections = dict(PUBLISHED.get(objective, {}))
    if sections:
        # The rate of the configuration's own teacher, if it has one, belongs to its kind.
        sections["teacher"] = {"every": None} | sections.get("teacher", {})
    if config.teacher.kind == "external":
        sections.pop("teacher", None)
    changes: dict[str, Any] = {
        name: dataclasses.replace(getattr(config, name), **settings)
        for name, settings in sections.items()
    }
    if "teacher" in PUBLISHED.get(objective, {}) and config.model == "tiny":
        taught = changes.get("teacher", config.teacher)
        changes["teacher"] = dataclasses.replace(taught, template="sdpo")
    return dataclasses.replace(config, objective=objective, **changes)
