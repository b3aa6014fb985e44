from pgpo_jax.training.config import (
    EvaluationConfig,
    LossConfig,
    OptimizerConfig,
    RolloutConfig,
    TeacherConfig,
)
from pgpo_jax.training.config._train_config import TrainConfig

PRESETS: dict[str, TrainConfig] = {
    # The defaults of the config are those of the paper, so that the preset changes nothing else.
    "paper-qwen3-8b": TrainConfig(
        model="Qwen/Qwen3-8B",
        task="data/sciknoweval/physics/train.json",
        checkpoint_every=25,
    ),
    # The shipped model on two CPU cores: about two seconds a step.
    "tiny": TrainConfig(
        steps=40,
        dtype="float32",
        remat=False,
        checkpoint_every=20,
        rollout=RolloutConfig(
            questions=8,
            samples=8,
            max_prompt=72,
            max_response=20,
            # One width for prompts, one for teacher prompts and one for responses.
            smallest_bucket=96,
            row_buckets=2,
        ),
        # At the paper's rate of .05 this small teacher stops using solutions within 40 steps. The
        # longest prompt of the teacher has about 75 tokens, and about twice as many with feedback.
        teacher=TeacherConfig(rate=0.01, max_prompt=192),
        loss=LossConfig(support="full", chunk=2048),
        optimizer=OptimizerConfig(learning_rate=1.5e-4, warmup_steps=5),
        evaluation=EvaluationConfig(every=10, questions=64, samples=4, temperature=1.0, top_p=1.0),
    ),
}
"""Complete configurations by name. `paper-qwen3-8b` runs the published settings on the physics
questions; `tiny` is what `pgpo demo` runs."""
