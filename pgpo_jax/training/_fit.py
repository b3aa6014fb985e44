import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax

from pgpo_jax.models import Qwen3Config
from pgpo_jax.training._config import LoRAConfig, TrainConfig
from pgpo_jax.training._plan import GIGABYTE, memory_plan

_LORA_RANK = 16


class Change(NamedTuple):
    """A configuration that needs less memory, and the flags of `pgpo train` that make it."""

    flags: str
    config: TrainConfig


def changes_to_fit(config: TrainConfig, shape: Qwen3Config, memory: int) -> Change | None:
    """The least that has to change before what can be told without compiling fits.

    First what leaves the step as it is (micro-batches, attention in chunks), then LoRA over a
    bfloat16 model, then its teacher as the initial model.

    Returns:
        The change, or `None` if no change on these devices is enough. It may be empty.
    """
    for flags, smaller in _smaller(config):
        smaller, at_once = _fewer_questions(smaller, shape, memory)
        if memory_plan(smaller, shape, compiled=False).peak <= memory:
            return Change(" ".join([*flags, *at_once]), smaller)
    return None


def sparing_step(config: TrainConfig) -> Change:
    """The same step with the smallest work space: least rows at a time, attention in chunks."""
    flags = []
    shards = config.mesh.data * config.mesh.fsdp
    if config.rollout.share_prompts:
        config = dataclasses.replace(
            config, rollout=dataclasses.replace(config.rollout, share_prompts=False)
        )
        flags.append("--rollout.no-share-prompts")
    if config.optimizer.micro_batch != shards:
        optimizer = dataclasses.replace(config.optimizer, micro_batch=shards)
        config = dataclasses.replace(config, optimizer=optimizer)
        flags.append(f"--optimizer.micro-batch {shards}")
    if config.attention == "xla":
        config = dataclasses.replace(config, attention="chunked")
        flags.append("--attention chunked")
    if not config.remat:
        config = dataclasses.replace(config, remat=True)
        flags.append("--remat")
    if config.remat_policy != "nothing_saveable":
        config = dataclasses.replace(config, remat_policy="nothing_saveable")
        flags.append("--remat-policy nothing_saveable")
    return Change(" ".join(flags), config)


def refuse_too_large(config: TrainConfig, shape: Qwen3Config) -> None:
    """Stops a run that cannot fit on this machine's devices before it allocates anything.

    Only what is certain counts: the activations, which the compiler alone knows, are left out.
    Where the devices do not report their memory nothing is checked.

    Raises:
        ValueError: with the bytes per device by purpose.
    """
    memory = device_memory()
    if memory is None:
        return
    plan = memory_plan(config, shape, compiled=False)
    if plan.peak <= memory:
        return
    table = ", ".join(" ".join(filter(None, row)) for row in plan.rows()[1:])
    raise ValueError(
        f"the run needs at least {plan.peak / GIGABYTE:.2f} GB of each device, which has "
        f"{memory / GIGABYTE:.2f} GB: {table}. `pgpo plan` with the same flags tells what to change"
    )


def device_memory() -> int | None:
    """Bytes that JAX may use of a device of this machine, or `None` if it does not say."""
    statistics = jax.local_devices()[0].memory_stats()
    return None if statistics is None else statistics.get("bytes_limit")


def _smaller(config: TrainConfig) -> Iterator[tuple[list[str], TrainConfig]]:
    yield [], config
    if not config.lora.rank:
        config = dataclasses.replace(config, lora=LoRAConfig(rank=_LORA_RANK))
        flags = [f"--lora.rank {_LORA_RANK}"]
        yield flags, config
        if config.teacher.kind == "ema":
            teacher = dataclasses.replace(config.teacher, kind="frozen")
            yield (
                [*flags, "--teacher.kind frozen"],
                dataclasses.replace(config, teacher=teacher),
            )


def _fewer_questions(
    config: TrainConfig, shape: Qwen3Config, memory: int
) -> tuple[TrainConfig, list[str]]:
    """As many questions sampled at a time as fit, if not all do."""
    settings = config.rollout
    shards = config.mesh.data * config.mesh.fsdp
    for questions in range(settings.micro_batch or settings.questions, 0, -1):
        if settings.questions % questions or questions % shards:
            continue
        changed = dataclasses.replace(
            config, rollout=dataclasses.replace(settings, micro_batch=questions)
        )
        if memory_plan(changed, shape, compiled=False).peak <= memory:
            if questions == (settings.micro_batch or settings.questions):
                return config, []
            return changed, [f"--rollout.micro-batch {questions}"]
    return config, []
