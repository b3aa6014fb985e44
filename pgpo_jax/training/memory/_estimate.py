"""Estimates the memory that a run needs."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import DecoderConfig, abstract_mesh
from pgpo_jax.models._sharding import check_mesh, target_platform
from pgpo_jax.tasks import held_out_spec
from pgpo_jax.training.config import MeshConfig, RolloutConfig
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.memory._abstract import abstract_state, abstract_step, abstract_weights
from pgpo_jax.training.memory._shapes import teacher_shape

GIGABYTE = 10**9
_HOISTING = "while-loop-invariant-code-motion,while-loop-expensive-invariant-code-motion"


class MemoryPlan(NamedTuple):
    """Bytes per device of a run, by purpose.

    Attributes:
        resident: bytes held all the time: trained and frozen weights, moments, teacher.
        update: further bytes during the update.
        rollout: further bytes while sampling.
        evaluation: further bytes during the evaluation.
        second_turn: further bytes while the student answers a second time, for objectives that need
            it.
        explanation: further bytes while the teacher explains solutions (`teacher.reason_first`).
    """

    resident: dict[str, int]
    update: dict[str, int]
    rollout: dict[str, int]
    evaluation: dict[str, int]
    second_turn: dict[str, int]
    explanation: dict[str, int]

    @property
    def peak(self) -> int:
        """The largest number of bytes at any time."""
        _, *phases = self
        beside = (sum(part.values()) for part in phases)
        return sum(self.resident.values()) + max(beside)

    def rows(self) -> list[list[str]]:
        """A table with a head: purpose, time when it is held, and gigabytes."""
        held = {"resident": "always"}
        body = [
            [name, held.get(when, when.replace("_", " ")), f"{count / GIGABYTE:.2f}"]
            for when, part in self._asdict().items()
            for name, count in part.items()
        ]
        total = ["most at a time", "", f"{self.peak / GIGABYTE:.2f}"]
        return [["per device", "held", "GB"], *body, total]


def memory_plan(
    config: TrainConfig, shape: DecoderConfig, *, mesh: Mesh | None = None, compiled: bool = True
) -> MemoryPlan:
    """The bytes that a run will need on each device; nothing is allocated.

    The bytes held between the phases follow from shapes and shardings. The work space of the update
    is the compiler's figure for the real step on abstract arguments of the largest shape, with all
    rows at full length. It is that of the compiler of this machine. Another compiler may need less
    or more.

    Args:
        config: the run.
        shape: its model.
        mesh: mesh of the run's size if the step is compiled, `None` for one device. Its devices
            need not be those of the run.
        compiled: whether to compile the step. Otherwise the activations are left out.

    Returns:
        The plan.

    Raises:
        ValueError: the mesh does not fit the model.
    """
    axes = abstract_mesh(*dataclasses.astuple(config.mesh))
    check_mesh(shape, axes)
    other = teacher_shape(config)
    if other is not None:
        check_mesh(other, axes)
    state = abstract_state(config, shape, axes)
    moments = [
        leaf
        for leaf in jax.tree.leaves(state.opt_state)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    resident = {
        "trained weights": _device_bytes(state.params),
        "frozen weights": _device_bytes(state.frozen),
        "optimizer moments": _device_bytes(moments),
        "teacher": _device_bytes(state.teacher) + _device_bytes(state.external),
    }
    update = {"gradients": _device_bytes(state.params)}
    if compiled:
        work = step_workspace(config, shape, mesh) - update["gradients"]
        update["activations and work space"] = max(work, 0)
    rollout: dict[str, int] = {}
    evaluation: dict[str, int] = {}
    second: dict[str, int] = {}
    # A server samples on other devices. An engine of your own may or may not.
    here = config.engine.name != "vllm"
    if here:
        rollout = _sampling_bytes(shape, config.mesh, config.dtype, config.rollout)
        longest = config.make_objective().longest_second_prompt
        if longest is not None:
            asked = _asked_again(config.rollout, longest)
            second = _sampling_bytes(shape, config.mesh, config.dtype, asked)
    if here and held_out_spec(config.task, config.eval_task) is not None:
        evaluation = _sampling_bytes(shape, config.mesh, config.dtype, _evaluated_at_once(config))
    held = {name: size for name, size in resident.items() if size}
    explained = _explanation_bytes(config, shape if other is None else other)
    return MemoryPlan(held, update, rollout, evaluation, second, explained)


def sampling_plan(
    shape: DecoderConfig, mesh: MeshConfig, dtype: str, rollout: RolloutConfig
) -> MemoryPlan:
    """The bytes that sampling alone needs on each device, without the prompts' work space.

    Args:
        shape: of the model.
        mesh: of the run.
        dtype: of weights and computation.
        rollout: questions at a time, responses to each, and their longest.

    Returns:
        The plan.

    Raises:
        ValueError: the mesh does not fit the model.
    """
    axes = abstract_mesh(*dataclasses.astuple(mesh))
    check_mesh(shape, axes)
    weights = _device_bytes(abstract_weights(shape, dtype, axes))
    sampling = _sampling_bytes(shape, mesh, dtype, rollout)
    return MemoryPlan({"weights": weights}, {}, sampling, {}, {}, {})


def step_workspace(config: TrainConfig, shape: DecoderConfig, mesh: Mesh | None) -> int:
    """Bytes per device that the compiled step needs in addition to its arguments."""
    step, *arguments = abstract_step(config, shape, mesh)
    # A CPU has no bfloat16 products. XLA would convert the weights of all layers before the loop,
    # which no accelerator does.
    options = {"xla_disable_hlo_passes": _HOISTING} if target_platform(mesh) == "cpu" else None
    analysis = step.lower(*arguments).compile(compiler_options=options).memory_analysis()
    fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.temp_size_in_bytes + max(fresh, 0)


def _device_bytes(tree: Any) -> int:
    """Of the largest share that a device holds."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _sampling_bytes(
    shape: DecoderConfig, mesh: MeshConfig, dtype: str, rollout: RolloutConfig
) -> dict[str, int]:
    """The bytes of the step's weights and of the keys and values.

    The weights are cast, cut by layer and gathered over "fsdp" once. Keys and values of all layers
    are held once for a prompt, and for the responses that are decoded at a time."""
    weights = abstract_weights(shape, dtype, abstract_mesh(1, 1, mesh.tensor))
    held = _device_bytes(weights)
    if shape.tie_word_embeddings and mesh.fsdp > 1:
        # The embedding is gathered as a table and once more as the head.
        held += _device_bytes(weights["embedding"])
    questions = rollout.micro_batch or rollout.questions
    rows = questions * rollout.samples
    lanes = min(rollout.max_num_seqs or rows, rows)
    tokens = questions * rollout.max_prompt + lanes * rollout.max_response
    per_token = 2 * shape.num_key_value_heads * shape.head_dim * jnp.dtype(dtype).itemsize
    return {
        "sampler's weights": held,
        "key-value cache": shape.num_hidden_layers * per_token * tokens // mesh.size,
    }


def _explanation_bytes(config: TrainConfig, teacher: DecoderConfig) -> dict[str, int]:
    """As the trainer asks the teacher to explain solutions: one answer to a prompt per question."""
    settings = config.make_objective().teacher_settings
    if settings is None or not settings.reason_first:
        return {}
    asked = dataclasses.replace(
        config.rollout,
        samples=1,
        row_buckets=1,
        max_prompt=max(config.rollout.max_prompt, settings.max_prompt),
        max_response=settings.max_rationale,
    )
    return _sampling_bytes(teacher, config.mesh, config.dtype, asked)


def _evaluated_at_once(config: TrainConfig) -> RolloutConfig:
    settings = config.evaluation
    return dataclasses.replace(
        config.rollout,
        questions=settings.batch,
        samples=settings.samples,
        micro_batch=None,
        row_buckets=1,
    )


def _asked_again(rollout: RolloutConfig, longest: int) -> RolloutConfig:
    """The request for second answers: one prompt per response, one answer to each."""
    at_once = rollout.micro_batch
    return dataclasses.replace(
        rollout,
        questions=rollout.rows,
        samples=1,
        max_prompt=max(rollout.max_prompt, longest),
        micro_batch=None if at_once is None else at_once * rollout.samples,
    )


def parse_bytes(text: str) -> int:
    """A size in bytes: a number with GB, GiB, MB or MiB.

    >>> parse_bytes("141GB"), parse_bytes("16 GiB")
    (141000000000, 17179869184)

    Raises:
        ValueError: not of this form.
    """
    units: Mapping[str, int] = {
        "GB": 10**9,
        "GiB": 2**30,
        "MB": 10**6,
        "MiB": 2**20,
    }
    number = text.rstrip("BGMi ")
    try:
        size = float(number) * units[text[len(number) :].strip()]
    except (ValueError, KeyError):
        size = math.nan
    if not 0 < size < math.inf:
        raise PGPOValueError(f"a memory size must be like 80GB or 16GiB, got {text!r}")
    return int(size)
