"""Checks that a resumed run has the inputs that it was made from."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training.config._json import differences
from pgpo_jax.training.config._places import same_but_for_place
from pgpo_jax.training.devices._processes import is_first
from pgpo_jax.training.run._inputs import FORMAT

_log = logging.getLogger("pgpo_jax")


def check_inputs(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    where: str,
    *,
    free: Collection[str] = (),
) -> None:
    """Refuse inputs that would make another run; warn if only the environment differs.

    Args:
        saved: the record of a checkpoint, its configuration with the current names.
        now: the current inputs. Missing ones are not compared.
        where: the checkpoint, for messages.
        free: dotted names of fields of the configuration that may differ.

    Raises:
        ValueError: an input differs. The message names it: a field of the configuration, weights, a
            file of the model or of the teacher, questions, or a text of the objective.
    """
    if saved.get("format") != FORMAT:
        _warn("%s has a record of another version: what it was made from is not compared", where)
        return
    changed = differences(
        saved.get("config", {}), now["config"], free=free, same=same_but_for_place
    )
    for name, was, value in changed:
        raise PGPOValueError(
            f"{where} was made with another configuration: {name} was {was!r}, now {value!r}. "
            "If config.json was edited, put the former value back, or begin a new run"
        )
    config = now["config"]
    _check_model(saved, now, where, repr(config.get("model")), "Give the former model (--model)")
    if "teacher" in saved and "teacher" in now:
        settings = config.get("teacher")
        name = settings.get("model") if isinstance(settings, dict) else config.get("teacher_model")
        _check_model(
            saved["teacher"],
            now["teacher"],
            where,
            f"the teacher {name!r}",
            "Give the former teacher (--teacher.model)",
        )
    for key, flag in (("questions", "--task"), ("held_out_questions", "--eval-task")):
        if key in saved and key in now and saved[key] != now[key]:
            what = "questions" if key == "questions" else "held-out questions"
            raise PGPOValueError(
                f"{where} was made with other {what} than those of the task "
                f"{now['config'].get('task')!r}: there were {_told(saved[key])}, now "
                f"{_told(now[key])}. Give the former ones ({flag})"
            )
    texts = saved.get("objective", {}), now.get("objective", {})
    for name in sorted(texts[0].keys() & texts[1].keys()):
        if texts[0][name] != texts[1][name]:
            raise PGPOValueError(
                f"{where} was made with another content of {name}: its digest was "
                f"{texts[0][name]}, now {texts[1][name]}. Give the former file (--{name})"
            )
    _warn_of(saved, now, where)


def _check_model(
    saved: Mapping[str, Any], now: Mapping[str, Any], where: str, name: str, advice: str
) -> None:
    """Compare two records of `model_inputs` for the model `name`."""
    both = saved.keys() & now.keys()
    if "weights" in both and saved["weights"] != now["weights"]:
        raise PGPOValueError(
            f"{where} was made from other weights than those of {name}: their digest was "
            f"{saved['weights']}, now {now['weights']}. {advice}"
        )
    if "model_files" in both:
        for file in sorted(saved["model_files"].keys() | now["model_files"].keys()):
            if saved["model_files"].get(file) != now["model_files"].get(file):
                raise PGPOValueError(
                    f"{where} was made with another {file} than that of {name}. {advice}"
                )
    if "end_tokens" in both and saved["end_tokens"] != now["end_tokens"]:
        raise PGPOValueError(
            f"{where} was made with other end tokens of {name}: they were "
            f"{saved['end_tokens']}, now {now['end_tokens']}"
        )


def _warn_of(saved: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    for name, digest in saved.get("code", {}).items():
        if name in now.get("code", {}) and now["code"][name] != digest:
            _warn("%s was made with another content of %s", where, name)
    changed = [
        f"{name} {saved.get('versions', {}).get(name)} (now {value})"
        for name, value in now.get("versions", {}).items()
        if saved.get("versions", {}).get(name) != value
    ]
    if changed:
        _warn(
            "%s was made with %s: the next steps may differ in their last digits from those of an "
            "unbroken run",
            where,
            ", ".join(changed),
        )


def _told(questions: Mapping[str, Any]) -> str:
    return f"{questions['count']} (digest {questions['digest']})"


def _warn(message: str, *values: object) -> None:
    if is_first():
        _log.warning(message, *values)
