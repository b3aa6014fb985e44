"""The protocol of rollout engines, which sample the responses of a step, and our own sampler."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Key

from pgpo_jax.errors import PGPOTypeError
from pgpo_jax.models import Decoder, Samples, sample


class SamplingParams(NamedTuple):
    """Settings of sampling.

    Attributes:
        samples: number of responses to each prompt.
        max_new_tokens: longest response in tokens, its end included.
        temperature: divides the logits; 0 is greedy.
        top_p: probability mass of the nucleus.
        top_k: number of most likely tokens to sample from; None means all.
        logprobs: whether log-probabilities are needed. If not, an engine may return zeros.

    Added in version 0.2.0.
    """

    samples: int
    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int | None = None
    logprobs: bool = True


class RolloutRequest(NamedTuple):
    """A request to an engine.

    Attributes:
        model: structure and current weights. Kernels may have adapters: see `models.merged`.
        prompt_tokens: token ids [B, P], padded on the left; rows of all devices of the mesh.
        prompt_mask: True at real tokens [B, P].
        keys: keys [R], one per response: row b * samples + g answers prompt b. The same key should
            give the same response, if the engine can do this.
        eos_ids: ids of the tokens that end a response.
        pad_id: id in `tokens` after the end.
        sampling: settings of sampling.

    Added in version 0.2.0.
    """

    model: Decoder
    # NumPy or JAX arrays, possibly of several processes; not checked here.
    prompt_tokens: Any
    prompt_mask: Any
    keys: Key[Array, " R"]
    eos_ids: tuple[int, ...]
    pad_id: int
    sampling: SamplingParams


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples responses to prompts: our sampler, a server, or an engine of your own.

    The trainer, the evaluation and the command line sample through it.

    >>> isinstance(Sampler(max_num_seqs=64), RolloutEngine)
    True

    Added in version 0.2.0.
    """

    def generate(self, request: RolloutRequest) -> Samples:
        """Tokens, log-probabilities and mask, each [R, max_new_tokens], as in `models.sample`.

        All processes call it together. The log-probabilities, in nats, are those of softmax(logits
        / temperature) before `top_k` and `top_p`.

        Args:
            request: weights, prompts and settings.

        Returns:
            The responses.
        """
        ...


@dataclass(frozen=True)
class Sampler:
    """`pgpo_jax.models.sample` as an engine; the default.

    Attributes:
        max_num_seqs: number of responses decoded at a time; None means all. See `models.sample`.

    Added in version 0.2.0.
    """

    max_num_seqs: int | None = None

    def generate(self, request: RolloutRequest) -> Samples:
        """See `RolloutEngine`."""
        sampling = request.sampling
        return sample(
            request.model,
            request.prompt_tokens,
            request.prompt_mask,
            request.keys,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            eos_id=request.eos_ids,
            pad_id=request.pad_id,
            samples_per_prompt=sampling.samples,
            max_num_seqs=self.max_num_seqs,
        )


def check_engine(engine: object) -> RolloutEngine:
    """Refuse an object that is no engine.

    Args:
        engine: an object.

    Returns:
        The same.

    Raises:
        TypeError: it has no method `generate`.
    """
    if isinstance(engine, type) or not isinstance(engine, RolloutEngine):
        raise PGPOTypeError(
            f"a rollout engine must be an object with a method generate, got {engine!r:.60}"
        )
    return engine
