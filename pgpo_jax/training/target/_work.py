"""The FLOPs of a run by formula, and its least time on a chip."""

from typing import NamedTuple

from pgpo_jax.models import DecoderConfig
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.memory._shapes import teacher_shape
from pgpo_jax.training.target._chips import Chip


class Work(NamedTuple):
    """The work of a step on one device.

    Attributes:
        flops: FLOPs of the products of the train step.
        sent: bytes of the step's collectives.
        weights: bytes that a decoding step reads of the weights.
        cache: bytes of keys and values that it reads, after half of the response.
        sent_per_token: bytes of a decoding step's collectives.
        tokens: number of sequential decoding steps of a rollout with the longest responses.
    """

    flops: float
    sent: int
    weights: int
    cache: int
    sent_per_token: int
    tokens: int


class Times(NamedTuple):
    """Seconds by the makers' figures: a lower bound, which no run reaches.

    Attributes:
        compute: seconds of the step's products.
        links: seconds of the collectives.
        step: the larger of the two, as if they overlapped completely.
        rollout: seconds for reading weights and cache once a token, and for collectives.
    """

    compute: float
    links: float
    step: float
    rollout: float


def kernel_entries(shape: DecoderConfig) -> int:
    """The number of entries of one layer's kernels.

    Args:
        shape: of a model.

    Returns:
        The number.

    Added in version 0.2.0.
    """
    heads = 2 * shape.num_attention_heads + 2 * shape.num_key_value_heads
    return shape.hidden_size * (heads * shape.head_dim + 3 * shape.intermediate_size)


def _factor_entries(shape: DecoderConfig, rank: int) -> int:
    """The number of entries of one layer's low-rank factors, on all seven kernels."""
    width, mlp = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    return rank * (2 * (width + queries) + 2 * (width + keys) + 3 * (width + mlp))


def step_flops(
    shape: DecoderConfig,
    *,
    rows: int,
    prompt: int,
    teacher_prompt: int | None,
    response: int,
    teacher_passes: int = 1,
    rank: int = 0,
    remat: bool = False,
    teacher_shape: DecoderConfig | None = None,
) -> float:
    """FLOPs of the products of a train step of SDPO, or of distillation from another model.

    A product of [m, k] and [k, n] counts 2 m k n. A backward pass counts as two forward passes, or
    as one if the kernels are frozen. Attention counts the pairs of a causal mask.

    Args:
        shape: of the model.
        rows: number of sequences.
        prompt: tokens of each prompt.
        teacher_prompt: tokens of each of the teacher's prompts; `None` without a teacher.
        response: tokens of each response. The last one is predicted, not read.
        teacher_passes: number of the teacher's passes over each row, one for each of its prompts.
        rank: rank of LoRA, or 0.
        remat: whether layers are computed once more in the backward pass.
        teacher_shape: shape of the teacher, if it is another model.

    Returns:
        The number, over all devices.

    Added in version 0.2.0.
    """

    def head(model: DecoderConfig) -> int:
        return 2 * model.hidden_size * model.vocab_size * response

    def layers(model: DecoderConfig, tokens: int) -> int:
        return 2 * model.num_hidden_layers * kernel_entries(model) * tokens

    def attention(model: DecoderConfig, tokens: int) -> int:
        pairs = tokens * (tokens + 1) // 2
        return 4 * model.num_hidden_layers * model.num_attention_heads * model.head_dim * pairs

    student = prompt + response - 1
    passes = 2 if rank else 3
    total = passes * (layers(shape, student) + head(shape)) + 3 * attention(shape, student)
    total += 6 * shape.num_hidden_layers * _factor_entries(shape, rank) * student
    if remat:
        total += layers(shape, student) + attention(shape, student)
    if teacher_prompt is not None:
        teacher, own = teacher_prompt + response - 1, teacher_shape or shape
        total += teacher_passes * (layers(own, teacher) + attention(own, teacher) + head(own))
    return float(rows * total)


def run_flops(config: TrainConfig, shape: DecoderConfig) -> float:
    """`step_flops` of a run with all rows at their largest length.

    Args:
        config: the run.
        shape: of its model.

    Returns:
        The number, over all devices.
    """
    objective = config.make_objective()
    # A teacher without its own prompt reads the student's.
    longest = objective.longest_teacher_prompt
    teacher_prompt = longest if longest > 1 else config.rollout.max_prompt
    return step_flops(
        shape,
        rows=config.rollout.rows,
        prompt=config.rollout.max_prompt,
        teacher_prompt=None if objective.teacher_settings is None else teacher_prompt,
        response=config.rollout.max_response,
        teacher_passes=1 + objective.further_prompts,
        rank=config.lora.rank,
        remat=config.remat,
        teacher_shape=teacher_shape(config),
    )


def least_times(work: Work, chip: Chip) -> Times:
    """Seconds of a step and of a rollout by the figures of a chip.

    Args:
        work: of one device.
        chip: its figures.

    Returns:
        The times.
    """
    compute, links = work.flops / chip.flops, work.sent / chip.link_bandwidth
    token = (work.weights + work.cache) / chip.memory_bandwidth
    token += work.sent_per_token / chip.link_bandwidth
    return Times(compute, links, max(compute, links), work.tokens * token)
