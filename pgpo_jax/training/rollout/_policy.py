from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import (
    DecoderConfig,
    decode,
    encode,
    is_gguf,
    load_pretrained,
    load_tokenizer,
    render_messages,
)
from pgpo_jax.models._load import find_folder
from pgpo_jax.models._sample import row_keys
from pgpo_jax.paths import local_path
from pgpo_jax.tasks import Message, Question
from pgpo_jax.training.devices._mesh import (
    fetch_rows,
    gather_rows,
    process_local_rows,
    row_parts,
    shard_rows,
)
from pgpo_jax.training.rollout._buckets import bucket, pad
from pgpo_jax.training.rollout._end_tokens import end_tokens
from pgpo_jax.training.rollout._engine import (
    RolloutEngine,
    RolloutRequest,
    Sampler,
    SamplingParams,
)


class Responses(NamedTuple):
    """Responses of the student: `samples` rows per prompt, with the rows of a prompt together.

    Each process has the rows of its own prompts.
    """

    tokens: Int[np.ndarray, "N T"]
    mask: Bool[np.ndarray, "N T"]
    logprobs: Float[np.ndarray, "N T"]
    texts: list[str]

    @property
    def lengths(self) -> Int[np.ndarray, " N"]:
        """The number of tokens of each response, its end included."""
        return self.mask.sum(1)


@dataclass(frozen=True)
class Policy:
    """The fixed part of a language model: structure and tokenizer. The weights are arguments.

    Attributes:
        graphdef: structure of the model, from `nnx.split`.
        tokenizer: tokenizer of the model's folder.
        eos_ids: ids of the tokens that end a response.
        pad_id: id that fills rows. Any token will do, because masks say which tokens count.
        mesh: mesh of the weights; `None` for one device.
        name: name that the model was loaded from.
        folder: folder that was read; for a Hub id, its local copy.
        vocabulary: number of token ids of the model. With `None` prompts are not checked.
        max_length: longest sequence that the model is made for, in tokens; `None` if it is not
            known.
    """

    graphdef: Any
    tokenizer: Any
    eos_ids: tuple[int, ...]
    pad_id: int
    mesh: Mesh | None = None
    name: str = ""
    folder: str = ""
    vocabulary: int | None = None
    max_length: int | None = None

    def encode(self, messages: Sequence[Message], *, thinking: bool = False) -> list[int]:
        """Token ids of a chat up to where the answer begins.

        Args:
            messages: turns of the chat, the oldest first.
            thinking: let the model think first, if the chat template has this option.

        Raises:
            ValueError: as `pgpo_jax.models.render_messages`; or the model does not have a token.
        """
        ids = render_messages(self.tokenizer, messages, thinking=thinking)
        if self.vocabulary is not None and max(ids, default=0) >= self.vocabulary:
            raise PGPOValueError(
                f"token ids must be below {self.vocabulary}, the vocabulary of the model, but the "
                f"tokenizer makes {max(ids)} ({self.token_texts([max(ids)])[0]!r}) of a prompt"
            )
        return ids

    def encode_question(self, question: Question, *, thinking: bool = False) -> list[int]:
        """Token ids of the student's prompt."""
        return self.encode(question.messages, thinking=thinking)

    def check_thinking(self, asked: bool, setting: str) -> None:
        """Refuse thinking if the chat template has no option for it.

        Args:
            asked: whether the model is to think.
            setting: name of that setting, for the message.

        Raises:
            ValueError: thinking is requested and changes nothing.
        """
        probe = [Message("user", "1 + 1?")]
        if asked and self.encode(probe, thinking=True) == self.encode(probe):
            raise PGPOValueError(
                f"{setting} must be False with this model, whose chat template has no switch "
                "for thinking (enable_thinking), got True"
            )

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each token on its own; a part of a character is shown as U+FFFD."""
        return self.tokenizer.batch_decode([[id] for id in ids], clean_up_tokenization_spaces=False)

    def write(self, texts: Sequence[str], *, max_tokens: int) -> Responses:
        """Given responses in the form of sampled ones, each with its end token.

        Args:
            texts: one response to each prompt.
            max_tokens: longest response in tokens, its end included. A longer one is not cut; it
                gets no token.

        Returns:
            `Responses`, whose log-probabilities are 0.
        """
        ids = [[*encode(self.tokenizer, text), self.eos_ids[0]] for text in texts]
        ids = [row if len(row) <= max_tokens else [] for row in ids]
        width = max(1, *map(len, ids))
        tokens, mask = pad(ids, count=len(ids), width=width, fill=self.pad_id, side="right")
        return Responses(tokens, mask, np.zeros(tokens.shape, np.float32), list(texts))

    def respond(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        key: Key[Array, ""],
        *,
        samples: int,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int | None = None,
        smallest_bucket: int,
        largest_prompt: int,
        at_once: int | None = None,
        engine: RolloutEngine | None = None,
        logprobs: bool = True,
    ) -> Responses:
        """Sample `samples` responses to each prompt.

        Each call of the engine takes `at_once` prompts (of all processes), or all of them.

        All processes call it together, each with its own prompts (see `process_local_rows`). The
        random numbers of a response depend on `key` and its place among the responses of all
        processes. The mesh, the number of processes and `at_once` do not change them.

        Args:
            params: the weights of the model.
            prompts: token ids of any lengths.
            key: key of the random numbers.
            samples: responses to each prompt.
            max_new_tokens: of a response, its end included.
            temperature: sampling temperature, see `pgpo_jax.models.sample`.
            top_p: mass of the nucleus.
            top_k: tokens that are sampled from; `None`: all.
            smallest_bucket: prompts are padded to this times a power of two, in tokens.
            largest_prompt: longest prompt, in tokens.
            at_once: number of prompts in a call of the engine. It must divide their number.
            engine: engine that samples them; by default the jitted sampler, with all responses of a
                call at a time.
            logprobs: whether log-probabilities are needed. Some engines skip them otherwise.

        Returns:
            `Responses`, in the order of the prompts.

        Raises:
            ValueError: a prompt is too long, or `at_once` does not divide the number of prompts.
        """
        engine = Sampler() if engine is None else engine
        lengths = gather_rows(np.array([len(prompt) for prompt in prompts]), self.mesh)
        own, places, parts = process_local_rows(len(lengths), self.mesh), [], []
        sampling = SamplingParams(samples, max_new_tokens, temperature, top_p, top_k, logprobs)
        for part in row_parts(len(lengths), at_once or len(lengths), self.mesh):
            places.append(np.searchsorted(own, part[process_local_rows(len(part), self.mesh)]))
            width = bucket(
                int(lengths[part].max()), smallest=smallest_bucket, largest=largest_prompt
            )
            tokens, mask = pad(
                [prompts[i] for i in places[-1]],
                count=len(places[-1]),
                width=width,
                fill=self.pad_id,
                side="left",
            )
            tokens, mask = shard_rows((tokens, mask), self.mesh)
            request = RolloutRequest(
                nnx.merge(self.graphdef, params),
                tokens,
                mask,
                row_keys(key, _samples_of(part, samples).astype(np.uint32)),
                self.eos_ids,
                self.pad_id,
                sampling,
            )
            out = engine.generate(request)
            parts.append(fetch_rows((out.tokens, out.mask, out.logprobs)))
        order = _samples_of(np.argsort(np.concatenate(places)), samples)
        ids, valid, told = (np.concatenate(part)[order] for part in zip(*parts, strict=True))
        texts = [
            decode(self.tokenizer, row[keep].tolist(), ends=self.eos_ids)
            for row, keep in zip(ids, valid, strict=True)
        ]
        return Responses(ids, valid, told, texts)


def _samples_of(prompts: Int[np.ndarray, " questions"], samples: int) -> Int[np.ndarray, " N"]:
    """The numbers of the responses to some prompts."""
    return (prompts[:, None] * samples + np.arange(samples)).ravel()


TINY = Path(__file__).resolve().parents[2] / "assets" / "tiny"


def model_folder(name: str) -> str:
    """The folder or Hub id of a model name; `tiny` is the model shipped with the package.

    Raises:
        ValueError: the name is an address such as `https://...`, or a GGUF file, which must be
            converted first.

    Added in version 0.2.0.
    """
    if is_gguf(name):
        raise PGPOValueError(
            f"{name} is a GGUF file: make a folder of it with `pgpo convert {name} FOLDER`"
        )
    return str(TINY if name == "tiny" else local_path(name, "a model"))


class LoadedPolicy(NamedTuple):
    """The result of `load_policy`.

    Attributes:
        policy: structure and tokenizer.
        params: the weights, an `nnx.State`.

    Added in version 0.2.0.
    """

    policy: Policy
    params: Any


def load_policy(
    name: str,
    *,
    mesh: Mesh | None = None,
    dtype: Any = None,
    remat: bool | str = False,
    param_dtype: Any = "float32",
    attention: str = "xla",
) -> LoadedPolicy:
    """Load a model and its tokenizer.

    Args:
        name: `tiny`, a folder in Hugging Face layout, or a Hub id.
        mesh: mesh on which the weights are placed.
        dtype: dtype of the computation.
        param_dtype: dtype of the weights; float32 to train them.
        remat: recompute each layer in the backward pass; see `pgpo_jax.models.Qwen3`.
        attention: implementation of attention, see `pgpo_jax.models.Qwen3`.

    Returns:
        The policy and its weights.

    Raises:
        FileNotFoundError: the folder or a file in it is missing.
        ValueError: a file cannot be read, the tokenizer has tokens that the model does not have, or
            there is no end token or one beyond the vocabulary.
    """
    folder = find_folder(model_folder(name))
    # This comes first, so that a damaged config.json is not reported as a damaged tokenizer.
    DecoderConfig.from_folder(folder)
    tokenizer = load_tokenizer(folder)
    model = load_pretrained(
        folder, mesh=mesh, dtype=dtype, param_dtype=param_dtype, remat=remat, attention=attention
    )
    graphdef, params = nnx.split(model, nnx.Param)
    vocabulary = model.config.vocab_size
    _check_vocabulary(tokenizer, vocabulary, folder)
    ends = end_tokens(folder, tokenizer, vocabulary)
    pad = tokenizer.pad_token_id
    # Masks say which tokens count, so any token of the model will do.
    pad_id = pad if pad is not None and pad < vocabulary else ends[0]
    policy = Policy(
        graphdef,
        tokenizer,
        ends,
        pad_id,
        mesh,
        name,
        folder=str(folder),
        vocabulary=vocabulary,
        max_length=model.config.max_position_embeddings,
    )
    return LoadedPolicy(policy, params)


def _check_vocabulary(tokenizer: Any, vocabulary: int, folder: Path) -> None:
    """Refuse a tokenizer that encodes ordinary text to ids that the model does not have.

    A special token beyond the model's ids does no harm unless a template writes it.
    """
    added = tokenizer.added_tokens_decoder
    if max(len(tokenizer) - 1, *added) < vocabulary:
        return
    ordinary = (
        x for x in tokenizer.get_vocab().items() if x[1] not in added or not added[x[1]].special
    )
    text, last = max(ordinary, key=lambda x: x[1], default=("", -1))
    if last >= vocabulary:
        raise PGPOValueError(
            f"the tokenizer in {folder} must make ids below {vocabulary}, the vocabulary of the "
            f"model in config.json, but its token {text!r} has the id {last}. Resize the "
            "embedding, or use the tokenizer of this model"
        )
