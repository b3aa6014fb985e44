"""Settings are checked when they are made, and the presets hold what they claim."""

import dataclasses

import pytest

from pgpo_jax.training import (
    PRESETS,
    EngineConfig,
    EvaluationConfig,
    InformationConfig,
    LoRAConfig,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    RolloutConfig,
    SelectionConfig,
    TeacherConfig,
    TextsConfig,
    TrainConfig,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RolloutConfig(questions=0), r"questions must be positive, got 0"),
        (lambda: RolloutConfig(top_p=0.0), r"top_p must be in \(0, 1\], got 0.0"),
        (
            lambda: RolloutConfig(questions=3, samples=3),
            r"row_buckets must divide questions \* samples = 3 \* 3 \(--rollout.row-buckets 1",
        ),
        (
            lambda: TrainConfig(rollout=RolloutConfig(samples=1)),
            r"rollout.samples must be at least 2 with objective 'sdpo'.*, got 1",
        ),
        (lambda: TeacherConfig(rate=1.5), r"rate must be in \[0, 1\], got 1.5"),
        (lambda: LossConfig(support="sampled"), r"teacher_weight must be 1 .* got 0.5"),
        (lambda: LossConfig(rollout_clip=0.0), r"rollout_clip must be positive"),
        (lambda: OptimizerConfig(learning_rate=float("nan")), r"learning_rate must be positive"),
        (lambda: OptimizerConfig(warmup_steps=-1), r"warmup_steps must be at least 0, got -1"),
        (lambda: OptimizerConfig(learning_rate=float("inf")), r"learning_rate must be finite"),
        (lambda: OptimizerConfig(b1=1.0), r"b1 must be in \[0, 1\), got 1.0"),
        (lambda: OptimizerConfig(b2=-0.1), r"b2 must be in \[0, 1\), got -0.1"),
        (lambda: OptimizerConfig(weight_decay=-0.1), r"weight_decay must be at least 0, got -0.1"),
        (lambda: OptimizerConfig(weight_decay=float("nan")), r"weight_decay must be finite"),
        (lambda: RolloutConfig(temperature=float("inf")), r"temperature must be finite, got inf"),
        (lambda: TeacherConfig(success_threshold=float("nan")), r"success_threshold must be fin"),
        (lambda: LoRAConfig(alpha=float("inf")), r"LoRAConfig.alpha must be finite, got inf"),
        (lambda: EvaluationConfig(top_p=1.5), r"EvaluationConfig.top_p must be in \(0, 1\], got"),
        (lambda: EvaluationConfig(temperature=float("inf")), r"temperature must be finite"),
        (lambda: TrainConfig(seed=-1), r"seed must be in \[0, 2\*\*32\), got -1"),
        (lambda: TrainConfig(seed=2**32), r"seed must be in \[0, 2\*\*32\), got 4294967296"),
        (lambda: EvaluationConfig(questions=-1), r"questions must be at least 0, got -1"),
        (lambda: MeshConfig(fsdp=0), r"fsdp must be positive, got 0"),
        (
            lambda: TrainConfig(information=InformationConfig(target_rho=2.0)),
            r"target_rho must be above 1 and below rho_max = 2.0, got 2.0",
        ),
        (
            lambda: TrainConfig(information=InformationConfig(target_rho=1.5, alpha=0.0)),
            r"alpha must be positive with target_rho.* got 0.0",
        ),
        (
            lambda: TrainConfig(
                loss=LossConfig(modulation="token"), information=InformationConfig(delay=1)
            ),
            r"information.delay must be 0 with loss.modulation.*, got 1",
        ),
        (lambda: InformationConfig(estimator="oracle"), r"estimator must be one of .*'outcome'"),
        (
            lambda: TrainConfig(
                objective="grpo",
                optimizer=OptimizerConfig(plateau=True),
            ),
            r"plateau must be False with objective 'grpo'.*, got True",
        ),
        (
            lambda: TrainConfig(
                loss=LossConfig(support="sampled", teacher_weight=1.0),
                optimizer=OptimizerConfig(plateau=True),
            ),
            r"plateau must be False with loss.support 'sampled'.*, got True",
        ),
        (
            lambda: TrainConfig(
                objective="grpo",
                rollout=RolloutConfig(samples=1),
            ),
            r"samples must be at least 2 with objective 'grpo'.*, got 1",
        ),
        (
            lambda: TrainConfig(objective="grpo", teacher=TeacherConfig(feedback=True)),
            r"teacher.feedback must be False with objective 'grpo'.*, got True",
        ),
        (
            lambda: TrainConfig(objective="grpo", loss=LossConfig(modulation="token")),
            r"loss.modulation must be 'none' with objective 'grpo'.*, got 'token'",
        ),
        (lambda: TrainConfig(objective="rlhf"), r"objective must be one of sdpo, grpo.*'rlhf'"),
        (lambda: RolloutConfig(top_k=0), r"RolloutConfig.top_k must be positive, got 0"),
        (lambda: RolloutConfig(max_num_seqs=0), r"max_num_seqs must be positive, got 0"),
        (
            lambda: TrainConfig(mesh=MeshConfig(fsdp=4), rollout=RolloutConfig(max_num_seqs=6)),
            r"rollout.max_num_seqs must be divisible by mesh.data .* = 4, got 6",
        ),
        (lambda: TextsConfig(rows=-1), r"TextsConfig.rows must be at least 0, got -1"),
        (lambda: SelectionConfig(metric="loss"), r"metric must be a metric of the evaluations"),
        (lambda: SelectionConfig(patience=0), r"patience must be positive, got 0"),
        (
            lambda: OptimizerConfig(arguments=("b1=0.5",)),
            r"arguments must be empty with name 'adamw'.*got \('b1=0.5',\)",
        ),
        (lambda: OptimizerConfig(name="lion", b1=0.5), r"b1 is of adamw alone.*b1=VALUE, got 0.5"),
        (lambda: InformationConfig(alpha=-1.0), r"alpha must be a finite number >= 0, got -1.0"),
        (lambda: InformationConfig(decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: OptimizerConfig(plateau_factor=1.0), r"plateau_factor must be in \(0, 1\)"),
        (
            lambda: TrainConfig(steps=5, optimizer=OptimizerConfig(schedule="cosine")),
            r"warmup_steps must be below steps = 5 with schedule 'cosine', got 10",
        ),
        (
            lambda: TrainConfig(dtype="float32", attention="cudnn"),
            r"dtype must be bfloat16 or float16 with attention 'cudnn'.*, got float32",
        ),
        (lambda: TrainConfig(steps=0), r"steps must be positive, got 0"),
        (
            lambda: TrainConfig(mesh=MeshConfig(data=3)),
            r"rollout.questions must be divisible by mesh.data .* = 3, got 32",
        ),
    ],
)
def test_bad_settings_name_rule_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("section", "name"),
    [
        (TrainConfig, "attention"),
        (TeacherConfig, "kind"),
        (LossConfig, "modulation"),
        (InformationConfig, "reduction"),
        (OptimizerConfig, "schedule"),
        (LoRAConfig, "base_dtype"),
        (EngineConfig, "logprobs_mode"),
        (EngineConfig, "dtype"),
    ],
)
def test_a_misspelt_choice_is_refused(section, name):
    # Around the type checks that these tests run with: outside of them "other " would be "same".
    settings = section()
    object.__setattr__(settings, name, "PGPO")
    with pytest.raises(ValueError, match=rf"{section.__name__}.{name} must be one of .* 'PGPO'"):
        settings.__post_init__()


def test_cudnn_goes_with_bfloat16_and_float32_with_the_others():
    TrainConfig(dtype="bfloat16", attention="cudnn")
    TrainConfig(dtype="float32", attention="chunked")


def test_the_paper_preset_holds_the_published_values():
    config = PRESETS["paper-qwen3-8b"]
    assert (config.rollout.questions, config.rollout.samples) == (32, 8)
    assert (config.rollout.max_prompt, config.rollout.max_response) == (2048, 8192)
    assert (config.loss.support, config.loss.k, config.loss.teacher_weight) == (
        "topk_tail",
        100,
        0.5,
    )
    assert (config.teacher.kind, config.teacher.rate) == ("ema", 0.05)
    optimizer = ("adamw", (), 1e-5, 10, 0.9, 0.999, 1e-8, 0.01)
    assert dataclasses.astuple(config.optimizer)[:8] == optimizer
    evaluation = config.evaluation
    assert (evaluation.samples, evaluation.temperature, evaluation.top_p) == (16, 0.6, 0.95)


def test_a_run_is_called_by_what_it_does():
    assert TrainConfig().label == "pgpo"
    assert TrainConfig(information=InformationConfig(alpha=0.0)).label == "sdpo"
    assert TrainConfig(objective="grpo").label == "grpo"
    # GRPO measures no information, so that there is nothing to multiply by.
    assert TrainConfig(objective="grpo").alpha == 0.0


def test_with_a_modulated_loss_the_step_has_no_multiplier_of_its_own():
    assert TrainConfig(loss=LossConfig(modulation="sequence")).alpha == 0.0
