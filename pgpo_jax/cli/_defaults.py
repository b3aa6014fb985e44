import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pgpo_jax.errors import PGPOFileNotFoundError, PGPOValueError
from pgpo_jax.paths import local_path
from pgpo_jax.tasks import is_synthetic
from pgpo_jax.training import (
    PRESETS,
    PUBLISHED,
    EvaluationConfig,
    InformationConfig,
    RolloutConfig,
    TeacherConfig,
    TrainConfig,
    model_folder,
    read_config,
    with_published,
)
from pgpo_jax.training.config._information_presets import before_flags

_TINY = PRESETS["tiny"]
CLI_PRESETS: dict[str, TrainConfig] = {
    # Real questions are longer than those of the shipped model, and a file may hold few of them.
    "tiny-file": dataclasses.replace(
        _TINY,
        # For 64 rows of 2048 tokens all attention scores at once would take about 20 GB.
        remat=True,
        attention="chunked",
        rollout=RolloutConfig(
            questions=_TINY.rollout.questions,
            samples=_TINY.rollout.samples,
            max_prompt=2048,
            max_response=64,
            smallest_bucket=256,
            row_buckets=_TINY.rollout.row_buckets,
        ),
        teacher=dataclasses.replace(_TINY.teacher, max_prompt=TeacherConfig().max_prompt),
        evaluation=EvaluationConfig(every=10, questions=0, samples=1),
    ),
    "sft": TrainConfig(
        objective="sft",
        information=InformationConfig(alpha=0.0),
        rollout=RolloutConfig(
            questions=8, samples=1, max_prompt=2048, max_response=1024, row_buckets=1
        ),
        evaluation=EvaluationConfig(samples=1),
    ),
    **PRESETS,
}
"""Presets by name: those of the library, the shipped model on a file of questions, and the preset
of `pgpo sft`."""


def starting_point(
    argv: Sequence[str], folder: Path, preset: str | None = None
) -> tuple[str, TrainConfig]:
    """The configuration that the flags of `pgpo train` change, and its source.

    It is the preset of `--preset`. Without that flag, `--resume` takes the configuration of the run
    in `folder`. Otherwise it is `preset`, or if that is `None` the preset for the model and the
    task.

    Raises:
        ValueError: if there is no such preset, of the run or of the multiplier, or the run's
            `config.json` cannot be read.
        FileNotFoundError: if there is no run to resume.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("preset", "output", "model", "task", "objective", "teacher.model"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--information-preset", "--information_preset")
    parser.add_argument("--resume", action="store_true")
    try:
        known, _ = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise PGPOValueError(str(error)) from None
    source, config = _configured(known, folder, preset)
    chosen = known.information_preset
    if chosen is None:
        return source, config
    # The flag of the objective sets it later.
    config = before_flags(config, chosen, known.objective)
    return f"{source} with the multiplier {chosen}", config


def _configured(
    known: argparse.Namespace, folder: Path, preset: str | None
) -> tuple[str, TrainConfig]:
    """The result of `starting_point`, and the multiplier of the configuration."""
    if known.preset is not None:
        if known.preset not in CLI_PRESETS:
            raise PGPOValueError(
                f"--preset must be one of {list(CLI_PRESETS)}, got {known.preset!r}"
            )
        return _with_objective(known.preset, known)
    if known.resume:
        source = local_path(known.output or folder, "output")
        if not (source / "config.json").is_file():
            raise PGPOFileNotFoundError(f"nothing to resume: there is no run in {source}")
        return str(source / "config.json"), read_config(source)
    name = preset or suitable_preset(known.model, known.task)
    return _with_objective(name, known)


def _with_objective(preset: str, known: argparse.Namespace) -> tuple[str, TrainConfig]:
    """A preset, changed by flags that name a teacher model or an objective."""
    source, config = f"preset {preset}", CLI_PRESETS[preset]
    teacher, objective = getattr(known, "teacher.model"), known.objective
    if teacher is not None:
        external = dataclasses.replace(
            config.teacher, kind="external", model=teacher, rate=TeacherConfig().rate
        )
        config = dataclasses.replace(config, teacher=external)
    if objective is None or objective not in PUBLISHED:
        return source, config
    return f"{source} with the settings of {objective}", with_published(config, objective)


def expanded(argv: Sequence[str]) -> list[str]:
    """The flags with `--grader NAME` expanded to `--grader.name NAME`.

    >>> expanded(["--grader", "exact", "--grader.partial", "--grader=letter"])
    ['--grader.name', 'exact', '--grader.partial', '--grader.name=letter']
    """

    def full(flag: str) -> str:
        short = flag == "--grader" or flag.startswith("--grader=")
        return flag.replace("--grader", "--grader.name", 1) if short else flag

    return [full(flag) for flag in argv]


def suitable_preset(model: str | None, task: str | None) -> str:
    """`tiny` or `tiny-file` for the shipped model, the paper's for any other."""
    if not is_shipped(model):
        return "paper-qwen3-8b"
    return "tiny" if task is None or is_synthetic(task) else "tiny-file"


def is_shipped(model: str | None) -> bool:
    """Whether a model is the one in the package, by name or folder."""
    return model in (None, "tiny") or str(
        local_path(str(model), "a model").resolve()
    ) == model_folder("tiny")
