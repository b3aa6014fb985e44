"""vLLM's OpenAI-compatible server as a rollout engine; nothing of vLLM is imported."""

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

    Before the first responses of new weights these are written as a Hugging Face folder, and the
    server is told to load them (`reload_weights` by `/collective_rpc`, then `/reset_prefix_cache`).
    Prompts go as token ids to `/v1/completions`, one request for all samples of a prompt, all
    requests at once. The seed of a request follows from the key of the prompt's first response.
    vLLM gives sample i the seed plus i; it does not promise the same tokens for other batches.

    Args:
        url: of the server.
        folder: where the weights are written; the server must read the same path.
        model: the model's name there; None: the only one that is served.
        dtype: of the written weights.
        logprobs_mode: what the server was started with. The log-probabilities that are recorded
            are before the filters: "raw_logprobs" are that at temperature 1 (or 0, for which those
            of temperature 1 are recorded), "processed_logprobs" without `top_p` and `top_k`.
        timeout: seconds that an answer may take.

    Raises:
        ValueError: an address of another kind; several processes; a server that serves another
            model, or several of which none is named.
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
            ValueError: sampling whose log-probabilities the server cannot tell.
            RuntimeError: the server cannot be reached, answers with an error, or its answer is not
                one to the request: another number of responses, no token ids or log-probabilities,
                ids that the model does not have.
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
        """Writes the weights and lets the server load them, if they are others than before."""
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
        # What it has of former prompts was computed with the former weights.
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
            # The server would take these from the model's generation_config.json.
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
    """One for each prompt, below 2**62, from the key of its first response."""
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
