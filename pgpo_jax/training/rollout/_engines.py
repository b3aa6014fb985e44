"""Rollout engines by name, as a configuration names them."""

from collections.abc import Callable
from typing import Any

from pgpo_jax.errors import PGPOTypeError, PGPOValueError
from pgpo_jax.tasks import is_object_spec, load_object
from pgpo_jax.training.config import EngineConfig
from pgpo_jax.training.rollout._engine import RolloutEngine, Sampler, check_engine
from pgpo_jax.training.rollout._vllm import VLLMServer


def _vllm(settings: EngineConfig) -> VLLMServer:
    assert settings.folder is not None  # The section of the settings checks this.
    return VLLMServer(
        settings.url,
        settings.folder,
        model=settings.model,
        dtype=settings.dtype,
        logprobs_mode=settings.logprobs_mode,
        timeout=settings.timeout,
    )


# Called with the settings. It must raise if the engine lacks something it needs.
ENGINES: dict[str, Callable[[EngineConfig], RolloutEngine]] = {"vllm": _vllm}
"""Engines by name, in addition to `sampler`. Each is made from its section of a configuration.

Added in version 0.2.0.
"""


def make_engine(settings: EngineConfig, max_num_seqs: int | None = None) -> RolloutEngine:
    """The engine of a configuration.

    Args:
        settings: its name, which is `sampler`, one of `ENGINES`, or `FILE.py:NAME`: a class or
            function of your own that is called with these settings.
        max_num_seqs: number of responses that our sampler decodes at a time. Other engines have
            their own settings.

    Raises:
        ValueError: the name is unknown, or `max_num_seqs` is given with another engine. Or a server
            cannot be reached or serves another model.
        TypeError: the result of `FILE.py:NAME` is no engine.

    >>> make_engine(EngineConfig(), max_num_seqs=64)
    Sampler(max_num_seqs=64)

    Added in version 0.2.0.
    """
    if settings.name == "sampler":
        return Sampler(max_num_seqs)
    if max_num_seqs is not None:
        raise PGPOValueError(
            f"rollout.max_num_seqs must be None with engine.name {settings.name!r}, which decides "
            f"that for itself, got {max_num_seqs}"
        )
    if is_object_spec(settings.name):
        make: Any = load_object(settings.name)
        if not callable(make):
            raise PGPOTypeError(f"{settings.name} must be a class or function, got {make!r:.60}")
        return check_engine(make(settings))
    if settings.name not in ENGINES:
        raise PGPOValueError(
            f"EngineConfig.name must be one of {['sampler', *ENGINES]} or FILE.py:NAME, "
            f"got {settings.name!r}"
        )
    return ENGINES[settings.name](settings)
