"""Checks for settings that are valid alone but contradict each other."""

from pgpo_jax.distillation._divergence import RAW
from pgpo_jax.tasks import is_object_spec
from pgpo_jax.training.config._objective import InformationConfig, LossConfig, TeacherConfig
from pgpo_jax.training.config._optimizer import OptimizerConfig
from pgpo_jax.training.config._rltf import RltfConfig
from pgpo_jax.training.config._rollout import EvaluationConfig, RolloutConfig
from pgpo_jax.training.config._rules import require

# Settings of the step's multiplier that weights of the loss ignore, with the value that has no
# effect.
_OF_THE_STEP = {"decay": 0.0, "delay": 0, "target_rho": None, "budget": None}
# Settings of Eq. 9, with the values that a budget in its place needs.
_WITH_A_BUDGET = {"alpha": 0.0, "rho_max": 1.0, "decay": 0.0, "delay": 0, "target_rho": None}


def check_rows(
    rollout: RolloutConfig,
    evaluation: EvaluationConfig,
    micro_batch: int | None,
    *,
    row_shards: int = 1,
    devices: int = 1,
) -> None:
    """Refuse rows that cannot be spread over the devices or cut into micro-batches.

    Args:
        rollout: settings of questions, samples and buckets.
        evaluation: settings of the evaluation.
        micro_batch: number of rows that go through the model at a time; `None` means all.
        row_shards: number of parts into which rows are spread: data * fsdp of the mesh.
        devices: number of devices of the mesh.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    rung = rollout.rows // rollout.row_buckets
    size = micro_batch or rung
    require(
        rung % size == 0,
        f"optimizer.micro_batch must divide rollout.questions * samples / row_buckets = {rung}",
        size,
    )
    for name, rows in (
        ("rollout.questions", rollout.questions),
        ("rollout.micro_batch", rollout.micro_batch or rollout.questions),
        ("rollout.max_num_seqs", rollout.max_num_seqs or row_shards),
        ("evaluation.batch", evaluation.batch),
        ("rollout.questions * samples / row_buckets", rung),
        ("optimizer.micro_batch", size),
    ):
        require(
            rows % row_shards == 0,
            f"{name} must be divisible by mesh.data * mesh.fsdp = {row_shards}",
            rows,
        )
    require(
        not rollout.share_prompts or devices == 1,
        "rollout.share_prompts needs one device",
        f"a mesh of {devices}",
    )
    require(
        not rollout.share_prompts or micro_batch is None,
        "rollout.share_prompts needs all rows at once: optimizer.micro_batch must be None",
        micro_batch,
    )


def check_multiplier(signal: InformationConfig, loss: LossConfig) -> None:
    """Refuses settings of the multiplier that do nothing or cannot be reached.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    if loss.modulation != "none":
        for name, default in _OF_THE_STEP.items():
            value = getattr(signal, name)
            require(
                value == default,
                f"information.{name} must be {default!r} with loss.modulation: it acts on the "
                "multiplier of the step, which is then 1",
                value,
            )
    if signal.budget is not None:
        for name, needed in _WITH_A_BUDGET.items():
            value = getattr(signal, name)
            require(
                value == needed,
                f"information.{name} must be {needed!r} with information.budget, which takes the "
                "place of Eq. 9",
                value,
            )
    if signal.target_rho is not None:
        require(
            1 < signal.target_rho < signal.rho_max,
            f"information.target_rho must be above 1 and below rho_max = {signal.rho_max}",
            signal.target_rho,
        )
        require(
            signal.alpha > 0,
            "information.alpha must be positive with target_rho, which starts from it",
            signal.alpha,
        )


def check_weight(loss: LossConfig, rollout: RolloutConfig) -> None:
    """Refuses a weight that is 0 for every response.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    require(
        loss.weight != "pass_rate" or rollout.samples > 1,
        "rollout.samples must be at least 2 with loss.weight 'pass_rate': the pass rate of one "
        "response is 0 or 1, and its weight is 0",
        rollout.samples,
    )
    require(
        loss.weight != "belief_shift" or rollout.samples > 1,
        "rollout.samples must be at least 2 with loss.weight 'belief_shift': the belief in the one "
        "answer that was sampled is 1, whatever the context",
        rollout.samples,
    )


def check_schedule(settings: OptimizerConfig, loss: LossConfig, steps: int) -> None:
    """Refuses a schedule of the learning rate that cannot work.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    require(
        settings.schedule == "constant" or settings.warmup_steps < steps,
        f"optimizer.warmup_steps must be below steps = {steps} with schedule 'cosine'",
        settings.warmup_steps,
    )
    for name, value in (("support", loss.support), ("form", loss.form)):
        require(
            value not in ("sampled", "advantage", *RAW) or not settings.plateau,
            f"optimizer.plateau must be False with loss.{name} {value!r}, whose value is no "
            "divergence: it may be negative and need not fall",
            settings.plateau,
        )


def check_sft(rollout: RolloutConfig) -> None:
    """Refuse settings that the cross-entropy of given responses cannot use.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    require(
        rollout.samples == 1,
        "rollout.samples must be 1 with objective 'sft': the data holds one response to a question",
        rollout.samples,
    )
    require(
        rollout.temperature == 1.0,
        "rollout.temperature must be 1 with objective 'sft': the loss is that of temperature 1",
        rollout.temperature,
    )


def check_sdpo(rollout: RolloutConfig, teacher: TeacherConfig) -> None:
    """Refuses a self-distillation whose teacher is never shown anything.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    require(
        rollout.samples > 1 or teacher.feedback or not teacher.exclude_self,
        "rollout.samples must be at least 2 with objective 'sdpo' unless teacher.feedback is set: "
        "a single response has no peer with a solution to show",
        rollout.samples,
    )


def check_teacher(objective: str, teacher: TeacherConfig) -> None:
    """Refuse settings of a teacher that the objective does not use.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    require(
        not teacher.reason_first or objective == "opsd",
        f"teacher.reason_first must be False with objective {objective!r}: only 'opsd' lets the "
        "teacher explain a solution first",
        teacher.reason_first,
    )
    require(
        not teacher.reason_first or teacher.template == "published",
        "teacher.template must be 'published' with teacher.reason_first",
        teacher.template,
    )
    for name in ("experience", "system"):
        value = getattr(teacher, name)
        require(
            value is None or objective == "opcd" or is_object_spec(objective),
            f"teacher.{name} must be unset with objective {objective!r}: only 'opcd' shows it to "
            "the teacher",
            value,
        )


def check_grpo(rollout: RolloutConfig, settings: OptimizerConfig) -> None:
    """Refuses what a group-relative policy gradient cannot use.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    _check_groups("grpo", rollout, settings)


def check_rlsd(rollout: RolloutConfig, settings: OptimizerConfig) -> None:
    """Refuses what rescaled group-relative advantages cannot use.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    _check_groups("rlsd", rollout, settings)


def check_rlcsd(rollout: RolloutConfig, settings: OptimizerConfig) -> None:
    """Refuses what a contrast of peers' answers cannot use.

    Raises:
        ValueError: naming the rule and the value.
    """
    require(
        rollout.samples > 1,
        "rollout.samples must be at least 2 with objective 'rlcsd': one response has no peers "
        "whose right and wrong answers its teacher could be shown",
        rollout.samples,
    )
    _check_plateau("rlcsd", settings)


def check_rltf(rollout: RolloutConfig, settings: OptimizerConfig, second: RltfConfig) -> None:
    """Refuses what two turns with group-relative advantages cannot use.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    _check_groups("rltf", rollout, settings)
    require(
        second.max_prompt >= rollout.max_prompt,
        f"rltf.max_prompt must be at least rollout.max_prompt = {rollout.max_prompt}: the prompt "
        "of a second turn holds that of the first",
        second.max_prompt,
    )


def check_routed(
    objective: str,
    rollout: RolloutConfig,
    teacher: TeacherConfig,
    loss: LossConfig,
    settings: OptimizerConfig,
) -> None:
    """Refuse settings that do not fit an objective with a router.

    The router needs responses to learn from and prompts that a teacher can read. Settings must not
    read a teacher of reinforced responses or weight their part of the loss.

    Raises:
        ValueError: a rule is broken. The message names the rule and the value.
    """
    require(
        rollout.samples > 1,
        f"rollout.samples must be at least 2 with objective {objective!r}: one response has "
        "neither a peer nor an advantage, so that the router leaves nothing to learn from",
        rollout.samples,
    )
    require(
        teacher.max_prompt >= rollout.max_prompt,
        f"teacher.max_prompt must be at least rollout.max_prompt = {rollout.max_prompt} with "
        f"objective {objective!r}, whose teacher may read the student's prompt",
        teacher.max_prompt,
    )
    require(
        loss.modulation == "none",
        f"loss.modulation must be 'none' with objective {objective!r}: a response that is not "
        "distilled has no information to weight its loss by",
        loss.modulation,
    )
    require(
        loss.weight == "none",
        f"loss.weight must be 'none' with objective {objective!r}, which has weights of its own",
        loss.weight,
    )
    _check_plateau(objective, settings)


def _check_groups(objective: str, rollout: RolloutConfig, settings: OptimizerConfig) -> None:
    require(
        rollout.samples > 1,
        f"rollout.samples must be at least 2 with objective {objective!r}: one response has no "
        "advantage",
        rollout.samples,
    )
    _check_plateau(objective, settings)


def _check_plateau(objective: str, settings: OptimizerConfig) -> None:
    require(
        not settings.plateau,
        f"optimizer.plateau must be False with objective {objective!r}: advantages have the mean "
        "0, and so has their loss, whatever is learnt",
        settings.plateau,
    )
