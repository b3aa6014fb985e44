"""The arithmetic of a run by formula, and the least time that it takes on a chip."""

from typing import NamedTuple

import jax

from pgpo_jax.models import DecoderConfig, abstract_params
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.target._chips import Chip


class Work(NamedTuple):
    """What a step does on one device.

    Attributes:
        flops: of the products of the train step.
        sent: bytes of the step's collectives.
        weights: bytes that a decoding step reads of the weights.
        cache: bytes that it reads of keys and values, with half of the response there.
        sent_per_token: bytes of a decoding step's collectives.
        tokens: decoding steps, one after the other, of a rollout of the longest responses.
    """

    flops: float
    sent: int
    weights: int
    cache: int
    sent_per_token: int
    tokens: int


class Times(NamedTuple):
    """Seconds at the makers' figures: a lower bound, which no run reaches.

    Attributes:
        compute: of the step's products.
        links: of the step's collectives.
        step: the larger of the two, as if they overlapped in full.
        rollout: reading weights and cache once a token, and sending.
    """

    compute: float
    links: float
    step: float
    rollout: float


def step_flops(config: TrainConfig, shape: DecoderConfig) -> int:
    """FLOPs of the products of a train step, all rows at their longest.

    A product of [m, k] and [k, n] counts 2 m k n. A backward pass is two forward passes, or one
    where weights are frozen, and one more where layers are computed again (`remat`). Attention
    counts half of all pairs of positions.

    Args:
        config: the run.
        shape: of its model.

    Returns:
        The number, over all devices.
    """
    params = abstract_params(shape)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(params["layers"]) if len(leaf.shape) == 3)
    heads = shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim

    def forward(length: int) -> int:
        return length * (2 * kernels + 2 * heads * length)

    rollout = config.rollout
    rows, response = rollout.rows, rollout.max_response
    vocabulary = 2 * shape.hidden_size * shape.vocab_size * response
    backward = (1 if config.lora.rank else 2) + (1 if config.remat else 0)
    student = (1 + backward) * forward(rollout.max_prompt + response - 1) + 3 * vocabulary
    teacher = config.make_objective().teacher_settings
    if teacher is None:
        return rows * student
    passes = 2 if teacher.kind == "trust_region" else 1
    taught = forward(teacher.max_prompt + response - 1) + vocabulary
    return rows * (student + passes * taught)


def least_times(work: Work, chip: Chip) -> Times:
    """Seconds of a step and of a rollout at the figures of a chip.

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
