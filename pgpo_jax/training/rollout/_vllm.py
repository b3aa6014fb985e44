"""vLLM's OpenAI-compatible server as a rollout engine; vLLM is not imported."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int

from pgpo_jax.errors import PGPORuntimeError, PGPOValueError
from pgpo_jax.models import Decoder, Samples, merged, save_pretrained
from pgpo_jax.paths import local_path
from pgpo_jax.training.config._engine import check_logprobs
from pgpo_jax.training.rollout._completions import Completion, completions
from pgpo_jax.training.rollout._engine import RolloutRequest
from pgpo_jax.training.rollout._http import JSONClient

_DEV_MODE = "Start vLLM with VLLM_SERVER_DEV_MODE=1, which switches this path on"


class VLLMServer:
    """A server that was started as `VLLM_SERVER_DEV_MODE=1 vllm serve MODEL`.

    New weights are written as a Hugging Face folder before their first responses. The server then
    loads them (`reload_weights` by `/collective_rpc`, then `/reset_prefix_cache`). Prompts are sent
    as token ids to `/v1/completions`: one request for all samples of a prompt, and all requests at
    once. The seed of a request is made from the key of the prompt's first response. vLLM gives
    sample i the seed plus i. It does not guarantee the same tokens in other batches.

    Args:
        url: address of the server.
        folder: folder to which the weights are written. The server must read the same path.
        model: name of the model on the server; None means the only one that is served.
        dtype: dtype of the written weights.
        logprobs_mode: the server's setting. The recorded log-probabilities must be those before the
            filters. With "raw_logprobs" this needs temperature 1, or 0, for which those of
            temperature 1 are recorded. "processed_logprobs" needs sampling without `top_p` and
            `top_k`.
        timeout: time limit for an answer, in seconds.

    Raises:
        ValueError: the address has another form, there are several processes, or the server serves
            another model, or several models and none is named.
        RuntimeError: the server cannot be reached, or answers with an error.

    >>> from pgpo_jax.training import VLLMServer  # VLLMServer("http://host:8000", "/weights")

    Added in version 0.2.0.
    """

    def __init__(
        self,
        url: str,
        folder: str | os.PathLike[str],
        *,
        model: str | None = None,
        dtype: str = "bfloat16",
        logprobs_mode: str = "raw_logprobs",
        timeout: float = 3600.0,
    ):
        if jax.process_count() > 1:
            raise PGPOValueError(
                "engine.name 'vllm' needs one process, which has all weights, "
                f"got {jax.process_count()}"
            )
        self._client = JSONClient(url, timeout)
        self._folder = local_path(folder, "a folder for weights").absolute()
        self._dtype, self._logprobs_mode = dtype, logprobs_mode
        self._handed_over: list[Any] = []
        self.model = self._served(model)

    def generate(self, request: RolloutRequest) -> Samples:
        """See `RolloutEngine`.

        Raises:
            ValueError: the server cannot return the log-probabilities of this sampling.
            RuntimeError: the server cannot be reached, answers with an error, or its answer does
                not fit the request. The answer may have another number of responses, no token ids
                or log-probabilities, or ids that the model does not have.
        """
        sampling = request.sampling
        if sampling.logprobs:
            check_logprobs(
                self._logprobs_mode, sampling.temperature, sampling.top_p, sampling.top_k
            )
        self._hand_over(request.model)
        tokens, mask = np.asarray(request.prompt_tokens), np.asarray(request.prompt_mask)
        prompts = [row[keep].tolist() for row, keep in zip(tokens, mask.astype(bool), strict=True)]
        seeds = _seeds(request)
        with ThreadPoolExecutor(len(prompts)) as pool:
            asked = [
                pool.submit(self._responses, prompt, seed, request)
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
            answers = [answer for one in asked for answer in one.result()]
        return _packed(answers, request)

    def _served(self, model: str | None) -> str:
        listed = self._client.ask("/v1/models")
        data = listed.get("data") if isinstance(listed, dict) else None
        names = [str(x.get("id")) for x in data or () if isinstance(x, dict)]
        if model is None and len(names) == 1:
            return names[0]
        if model not in names:
            rule = "must be a model" if model else "must name one of the models"
            raise PGPOValueError(
                f"engine.model {rule} that {self._client.url} serves ({', '.join(names) or 'none'})"
                f", got {model!r}"
            )
        return model

    def _hand_over(self, model: Decoder) -> None:
        """Write the weights and let the server load them, if they have changed."""
        graphdef, params = nnx.split(model, nnx.Param)
        leaves = jax.tree.leaves(params)
        same = len(leaves) == len(self._handed_over)
        if same and all(a is b for a, b in zip(leaves, self._handed_over, strict=True)):
            return
        self._handed_over = []
        save_pretrained(nnx.merge(graphdef, merged(params)), self._folder, dtype=self._dtype)
        self._client.ask(
            "/collective_rpc",
            {"method": "reload_weights", "kwargs": {"weights_path": str(self._folder)}},
            advice=_DEV_MODE,
        )
        # Its cache of former prompts was computed with the former weights.
        self._client.ask("/reset_prefix_cache", {}, advice=_DEV_MODE)
        self._handed_over = leaves

    def _responses(
        self, prompt: Sequence[int], seed: int, request: RolloutRequest
    ) -> list[Completion]:
        sampling = request.sampling
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "n": sampling.samples,
            "seed": seed,
            "max_tokens": sampling.max_new_tokens,
            "temperature": float(sampling.temperature),
            "top_p": float(sampling.top_p),
            "top_k": -1 if sampling.top_k is None else sampling.top_k,
            # Otherwise the server would take these from the model's generation_config.json.
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(request.eos_ids),
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
        if sampling.logprobs:
            body["logprobs"] = 1
        answer = self._client.ask("/v1/completions", body)
        try:
            return completions(answer, prompt, request)
        except PGPORuntimeError as error:
            raise PGPORuntimeError(f"{self._client.url}/v1/completions: {error}") from None


def _seeds(request: RolloutRequest) -> list[int]:
    """One seed for each prompt, below 2**62, from the key of its first response."""
    data = np.asarray(jax.random.key_data(request.keys)).astype(np.uint32)
    words = data[:: request.sampling.samples].reshape(-1, data[0].size)[:, -2:]
    return [int("".join(f"{word:08x}" for word in row), 16) % 2**62 for row in words.tolist()]


def _packed(answers: Sequence[Completion], request: RolloutRequest) -> Samples:
    shape = (len(answers), request.sampling.max_new_tokens)
    tokens: Int[np.ndarray, "R N"] = np.full(shape, request.pad_id, np.int32)
    logprobs, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for row, answer in enumerate(answers):
        length = len(answer.token_ids)
        tokens[row, :length] = answer.token_ids
        logprobs[row, :length] = answer.logprobs
        mask[row, :length] = True
    return Samples(jnp.asarray(tokens), jnp.asarray(logprobs), jnp.asarray(mask))
