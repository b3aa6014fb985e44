"""What samples the responses of a step: the protocol of rollout engines, and our own sampler."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Key

from pgpo_jax.errors import PGPOTypeError
from pgpo_jax.models import Decoder, Samples, sample


class SamplingParams(NamedTuple):
    """How responses are drawn.

    Attributes:
        samples: responses to each prompt.
        max_new_tokens: of a response, its end included.
        temperature: divides the logits; 0 is greedy.
        top_p: mass of the nucleus.
        top_k: tokens that are sampled from; None: all.
        logprobs: whether log-probabilities are wanted; an engine may give zeros for those that are
            not.

    Added in version 0.2.0.
    """

    samples: int
    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int | None = None
    logprobs: bool = True


class RolloutRequest(NamedTuple):
    """What an engine is asked for.

    Attributes:
        model: structure and weights of now. Kernels may be adapted: see `models.merged`.
        prompt_tokens: token ids [B, P], padded on the left; rows of all devices of the mesh.
        prompt_mask: True at real tokens [B, P].
        keys: [R], one per response: row b * samples + g answers prompt b. The same key shall give
            the same response, as far as the engine can.
        eos_ids: tokens that end a response.
        pad_id: fills `tokens` after the end.
        sampling: how responses are drawn.

    Added in version 0.2.0.
    """

    model: Decoder
    # Of NumPy or JAX, and of several processes: not checked here.
    prompt_tokens: Any
    prompt_mask: Any
    keys: Key[Array, " R"]
    eos_ids: tuple[int, ...]
    pad_id: int
    sampling: SamplingParams


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples responses to prompts: our sampler, a server, or an engine of yours.

    The trainer, the evaluation and the command line sample through it.

    >>> isinstance(Sampler(max_num_seqs=64), RolloutEngine)
    True

    Added in version 0.2.0.
    """

    def generate(self, request: RolloutRequest) -> Samples:
        """Tokens, log-probabilities and mask, each [R, max_new_tokens], as of `models.sample`.

        All processes call it together. The log-probabilities are those of
        softmax(logits / temperature), before `top_k` and `top_p`, in nats.

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
        max_num_seqs: responses decoded at a time; None: all. See `models.sample`.

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
    """Refuses what is no engine.

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
