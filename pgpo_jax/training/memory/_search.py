from collections.abc import Callable, Iterator
from dataclasses import replace

import jax

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import DecoderConfig
from pgpo_jax.models._sharding import CUT_FIELDS
from pgpo_jax.training.config import MeshConfig, RolloutConfig
from pgpo_jax.training.config._json import leaves
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.memory._estimate import GIGABYTE, MemoryPlan, memory_plan, sampling_plan
from pgpo_jax.training.memory._shapes import fetched_shape

_LORA_RANK = 16
# Share of the memory reserved for the unknown needs of the compiler and the allocator.
_HEADROOM = 0.1


def changes_to_fit(config: TrainConfig, shape: DecoderConfig, memory: int) -> TrainConfig | None:
    """The run with the smallest change that fits, estimated without compiling.

    The first changes are fewer questions at a time, in training or evaluation, and a mesh with a
    larger "tensor" axis. They do not change the step. The next is LoRA over a bfloat16 model, then
    the initial model as its teacher. A reserve is kept for needs that are not known yet.

    Args:
        config: the run.
        shape: its model.
        memory: bytes of a device.

    Returns:
        The run, which may be `config` itself, or `None` if these devices are not enough.
    """
    memory = int((1 - _HEADROOM) * memory)
    for smaller in _smaller(config):
        for mesh in _more_tensor(config.mesh, shape):
            for fewer in _fewer_questions(replace(smaller, mesh=mesh)):
                plan = memory_plan(fewer, shape, compiled=False)
                if plan.peak <= memory:
                    return fewer
                if plan._replace(evaluation={}).peak <= memory:
                    for evaluated in _fewer_evaluated(fewer):
                        if memory_plan(evaluated, shape, compiled=False).peak <= memory:
                            return evaluated
    return None


def smaller_steps(config: TrainConfig, shape: DecoderConfig) -> Iterator[TrainConfig]:
    """The same step with less and less work space.

    First it is unchanged. Next come the fewest rows at a time, attention in chunks and full
    recomputation. Then it is cut more over "tensor" and less over "fsdp"."""
    yield config
    for mesh in _more_tensor(config.mesh, shape):
        yield replace(
            config,
            mesh=mesh,
            rollout=replace(config.rollout, share_prompts=False),
            optimizer=replace(config.optimizer, micro_batch=mesh.row_shards),
            attention="chunked" if config.attention == "xla" else config.attention,
            remat=True,
            remat_policy="nothing_saveable",
        )


def changed_flags(before: TrainConfig, after: TrainConfig) -> str:
    """The flags that change one run into the other.

    >>> from pgpo_jax.training import MeshConfig, TrainConfig
    >>> changed_flags(TrainConfig(), TrainConfig(remat=False, mesh=MeshConfig(fsdp=8)))
    '--no-remat --mesh.fsdp 8'
    """
    old, flags = dict(leaves(before.to_json())), []
    for name, value in leaves(after.to_json()):
        if value == old[name]:
            continue
        section, _, field = name.replace("_", "-").rpartition(".")
        dotted = f"{section}." if section else ""
        if isinstance(value, bool):
            flags.append(f"--{dotted}{'' if value else 'no-'}{field}")
        elif isinstance(value, tuple):
            flags.append(" ".join([f"--{dotted}{field}", *map(str, value)]))
        else:
            flags.append(f"--{dotted}{field} {value}")
    return " ".join(flags)


def refuse_too_large(config: TrainConfig) -> None:
    """Stop a run that cannot fit on this machine's devices before it allocates anything.

    Only certain needs count. Activations are left out, because only the compiler knows them. If the
    devices do not report their memory, nothing is checked.

    Args:
        config: the run.

    Raises:
        ValueError: with the bytes per device by purpose.
    """
    _refuse(
        lambda: memory_plan(config, fetched_shape(config.model), compiled=False),
        "`pgpo plan` with the same settings tells what to change",
    )


def refuse_too_large_to_sample(
    model: str, mesh: MeshConfig, dtype: str, rollout: RolloutConfig
) -> None:
    """Stop sampling that cannot fit, as `refuse_too_large` stops a run.

    Args:
        model: as of `load_policy`.
        mesh: of the run.
        dtype: of weights and computation.
        rollout: questions at a time, responses to each, and their longest.

    Raises:
        ValueError: with the bytes per device by purpose.
    """
    _refuse(
        lambda: sampling_plan(fetched_shape(model), mesh, dtype, rollout),
        "Fewer answers at a time or shorter ones, bfloat16, or a larger mesh need less",
    )


def _refuse(planned: Callable[[], MemoryPlan], advice: str) -> None:
    memory = device_memory()
    if memory is None:
        return
    plan = planned()
    if plan.peak <= memory:
        return
    table = ", ".join(" ".join(filter(None, row)) for row in plan.rows()[1:])
    raise PGPOValueError(
        f"the run needs at least {plan.peak / GIGABYTE:.2f} GB of each device, which has "
        f"{memory / GIGABYTE:.2f} GB: {table}. {advice}"
    )


def device_memory() -> int | None:
    """Bytes that JAX may use on a device of this machine, or `None` if it does not report them."""
    statistics = jax.local_devices()[0].memory_stats()
    return None if statistics is None else statistics.get("bytes_limit")


def _smaller(config: TrainConfig) -> Iterator[TrainConfig]:
    yield config
    if not config.lora.rank:
        config = replace(config, lora=replace(config.lora, rank=_LORA_RANK))
        yield config
        if config.teacher.kind == "ema":
            yield replace(config, teacher=replace(config.teacher, kind="frozen"))


def _more_tensor(mesh: MeshConfig, shape: DecoderConfig) -> Iterator[MeshConfig]:
    """The mesh, then meshes that move factors from "fsdp" to "tensor" while the model divides."""
    yield mesh
    cut = [getattr(shape, field) for field in CUT_FIELDS["tensor"]]
    while mesh.fsdp % 2 == 0 and all(size % (2 * mesh.tensor) == 0 for size in cut):
        mesh = replace(mesh, fsdp=mesh.fsdp // 2, tensor=2 * mesh.tensor)
        yield mesh


def _fewer_questions(config: TrainConfig) -> Iterator[TrainConfig]:
    """The run, then the run with fewer and fewer questions answered at a time."""
    yield config
    settings, shards = config.rollout, config.mesh.row_shards
    for questions in range((settings.micro_batch or settings.questions) - 1, 0, -1):
        if settings.questions % questions == 0 and questions % shards == 0:
            yield replace(config, rollout=replace(settings, micro_batch=questions))


def _fewer_evaluated(config: TrainConfig) -> Iterator[TrainConfig]:
    """The run with ever smaller batches of held-out questions, each about half of the last."""
    settings, shards = config.evaluation, config.mesh.row_shards
    batch = settings.batch // shards
    while batch > 1:
        batch //= 2
        yield replace(config, evaluation=replace(settings, batch=batch * shards))
