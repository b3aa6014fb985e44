import math
from dataclasses import dataclass
from typing import Literal

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.training.config._rules import one_of_its_choices, require


@dataclass(frozen=True)
class EngineConfig:
    """Settings of the engine that samples the responses.

    Added in version 0.2.0.
    """

    name: str = "sampler"
    """`sampler` is the package's own, on the devices of the run. `vllm` is a server, see
    docs/training.md. `FILE.py:NAME` is an engine of your own."""
    url: str = "http://localhost:8000"
    """`vllm`: address of the server."""
    model: str | None = None
    """`vllm`: name of the model on the server (`--served-model-name`), which is needed if it serves
    several."""
    folder: str | None = None
    """`vllm`: folder to which the weights are written. The server must read the same path."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """`vllm`: dtype of the written weights."""
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] = "raw_logprobs"
    """`vllm`: the server's setting `--logprobs-mode`. `raw_logprobs`, its default, are
    log-probabilities at temperature 1. `processed_logprobs` are those after top-p and top-k."""
    timeout: float = 3600.0
    """`vllm`: time limit for an answer of the server, in seconds."""

    def __post_init__(self) -> None:
        one_of_its_choices(self)
        require(
            0 < self.timeout < math.inf,
            "EngineConfig.timeout must be positive and finite",
            self.timeout,
        )
        require(
            self.name != "vllm" or bool(self.folder),
            "EngineConfig.folder must be given with name 'vllm': weights are handed over in it",
            self.folder,
        )


def check_logprobs(mode: str, temperature: float, top_p: float, top_k: int | None) -> None:
    """Refuse sampling whose log-probabilities a vLLM server cannot return.

    Args:
        mode: `EngineConfig.logprobs_mode`.
        temperature: temperature of the rollout.
        top_p: probability mass of the nucleus.
        top_k: number of most likely tokens to sample from; `None` means all.

    Raises:
        ValueError: naming the rule and the values.
    """
    if mode == "raw_logprobs":
        require(
            temperature in (0, 1),
            "rollout.temperature must be 1 with engine.logprobs_mode 'raw_logprobs', which are "
            "those of temperature 1",
            temperature,
        )
        return
    if temperature == 0 or top_p < 1 or top_k is not None:
        raise PGPOValueError(
            "rollout.temperature must be positive, top_p 1 and top_k None with "
            "engine.logprobs_mode 'processed_logprobs', which are those of the filtered "
            f"distribution, got {temperature}, {top_p}, {top_k}"
        )
