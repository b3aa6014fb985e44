"""Reads the answers of `/v1/completions` of vLLM and checks that they fit the request."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pgpo_jax.errors import PGPORuntimeError
from pgpo_jax.training.rollout._engine import RolloutRequest


class Completion(NamedTuple):
    """One response.

    Attributes:
        token_ids: token ids, its end included.
        logprobs: log-probability of each token in nats; zeros if they were not requested.
    """

    token_ids: list[int]
    logprobs: list[float]


def completions(answer: Any, prompt: Sequence[int], request: RolloutRequest) -> list[Completion]:
    """The responses to a prompt.

    Args:
        answer: answer of the server, decoded from JSON.
        prompt: prompt that was sent.
        request: request that the prompt is a part of.

    Returns:
        The requested number of responses.

    Raises:
        RuntimeError: the answer does not fit the request.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(isinstance(x, dict) for x in choices):
        raise PGPORuntimeError(f"the answer has no list of choices: {answer!r:.200}")
    wanted = request.sampling.samples
    if sorted(str(x.get("index")) for x in choices) != sorted(map(str, range(wanted))):
        raise PGPORuntimeError(
            f"the answer must have {wanted} responses to the prompt, got {len(choices)}"
        )
    return [
        _completion(choice, prompt, request)
        for choice in sorted(choices, key=lambda choice: choice["index"])
    ]


def _completion(
    choice: dict[str, Any], prompt: Sequence[int], request: RolloutRequest
) -> Completion:
    sampling, vocabulary = request.sampling, request.model.config.vocab_size
    ids = choice.get("token_ids")
    if not isinstance(ids, list) or not all(type(x) is int for x in ids):
        raise PGPORuntimeError(
            "the answer has no token_ids: the server must know return_token_ids, as vLLM does "
            "from 0.10.2 on"
        )
    read = choice.get("prompt_token_ids", prompt)
    if read != list(prompt):
        raise PGPORuntimeError(
            f"the server read another prompt than it was sent: {len(read or ())} tokens of "
            f"{len(prompt)}"
        )
    outside = [x for x in ids if not 0 <= x < vocabulary]
    if outside:
        raise PGPORuntimeError(
            f"the server serves a model of another vocabulary: token ids must be in "
            f"[0, {vocabulary}), got {outside[0]}"
        )
    if not 1 <= len(ids) <= sampling.max_new_tokens:
        raise PGPORuntimeError(
            f"a response must have 1 to {sampling.max_new_tokens} tokens, got {len(ids)}"
        )
    ends = [place for place, x in enumerate(ids) if x in request.eos_ids]
    cut = len(ids) == sampling.max_new_tokens
    if ends[:1] != [len(ids) - 1] and (ends or not cut):
        raise PGPORuntimeError(
            f"a response must end by one of the tokens {list(request.eos_ids)} or after "
            f"{sampling.max_new_tokens} tokens, got one that ends by {ids[-1]} after {len(ids)} "
            f"(finish_reason {choice.get('finish_reason')!r})"
        )
    return Completion(ids, _logprobs(choice, ids) if sampling.logprobs else [0.0] * len(ids))


def _logprobs(choice: dict[str, Any], ids: list[int]) -> list[float]:
    held = choice.get("logprobs")
    values = held.get("token_logprobs") if isinstance(held, dict) else None
    if not isinstance(values, list):
        raise PGPORuntimeError("the answer has no log-probabilities (logprobs.token_logprobs)")
    if len(values) != len(ids):
        raise PGPORuntimeError(
            f"the answer must have a log-probability for each of {len(ids)} tokens, "
            f"got {len(values)}"
        )
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value > 0:
            raise PGPORuntimeError(
                f"a log-probability must be a finite number of at most 0, got {value!r}"
            )
    return [float(value) for value in values]
