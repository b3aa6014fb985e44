"""The effect of rounded products on the information I, by emulation on a CPU.

    python -m benchmarks.product_precision --model models/smollm2-135m-instruct --json FILE

Unless a program says otherwise, a TPU rounds the inputs of float32 products to bfloat16 and an
NVIDIA GPU to TF32. Both sum in float32. Here the loss of SDPO runs on real responses of a model, in
float32 and again with the inputs of some products rounded. The model answers synthetic questions;
the teacher sees the other response to the question, right or wrong.

The rounded products are those of attention (`scores`: queries and keys, `values`: weights and
values), of the layers' kernels, of the output head, or all of them. `as run` rounds the products
whose precision our code leaves to the platform. The model's compute dtype is float32, then
bfloat16.

`--vocabulary` repeats the head with more words. Each further word has the mean direction of two
words of the model, so the hidden states are still those of the model. Differences are to the run in
float32, over the tokens of the responses: root mean square per token, and the means.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.extend.core import JaxprEqn
from jaxtyping import Array, Float

from benchmarks._record import add_json_flag, report
from benchmarks._rounding import BFLOAT16, FLOAT32, TF32, Rounding, rounded_products
from pgpo_jax.distillation import HeadLoss, sdpo_head_loss
from pgpo_jax.models import Decoder, DecoderConfig
from pgpo_jax.tasks import Grade, Question, load_questions
from pgpo_jax.training import (
    SDPO,
    EvaluationConfig,
    Experience,
    RolloutConfig,
    TeacherConfig,
    Trainer,
    load_policy,
)
from pgpo_jax.training.objectives import Models, student_states, teacher_states

ALPHAS = (1.0, 5.0, 30.0)
SITES = ("scores", "values", "kernels", "head")


class Case(NamedTuple):
    """A run of the loss.

    Attributes:
        dtype: of the model's computation.
        products: which are rounded, in words.
        rounding: to what, in words.
        bits: of the inputs of the products at each of `SITES`.
        result: bits of the logits.
    """

    dtype: str
    products: str
    rounding: str
    bits: tuple[int, ...]
    result: int = FLOAT32


def cases(left: Mapping[str, set[str]]) -> list[Case]:
    """What is compared, the reference first.

    Args:
        left: by dtype, the sites that our code leaves to the platform.
    """

    def at(sites: Collection[str], bits: int) -> tuple[int, ...]:
        return tuple(bits if site in sites else FLOAT32 for site in SITES)

    found = [Case("float32", "none", "", at((), 0))]
    for rounding, bits, platform in (("bfloat16", BFLOAT16, "TPU"), ("TF32", TF32, "GPU")):
        found += [Case("float32", site, rounding, at((site,), bits)) for site in SITES]
        found.append(Case("float32", "all", rounding, at(SITES, bits)))
        for dtype, sites in left.items():
            found.append(Case(dtype, f"as run on {platform}", rounding, at(sites, bits)))
    found.append(Case("bfloat16", "none", "", at((), 0)))
    found.append(Case("bfloat16", "logits kept", "bfloat16", at((), 0), BFLOAT16))
    return found


def site(equation: JaxprEqn, shape: DecoderConfig) -> str:
    """Which product of the model an equation is."""
    (contracted, _), (batch, _) = equation.params["dimension_numbers"]
    left: Any = equation.invars[0].aval
    result: Any = equation.outvars[0].aval
    if batch:
        return "scores" if left.shape[contracted[0]] == shape.head_dim else "values"
    return "head" if result.shape[-1] >= shape.vocab_size else "kernels"


def rounded_losses(
    shape: DecoderConfig, dtype: str, vocabularies: list[int], left: set[str]
) -> Any:
    """The losses as a jitted function of bits as of `Case`, weights and batch.

    Args:
        shape: of the model.
        dtype: of its computation.
        vocabularies: as of `losses`.
        left: takes the sites with a product that the code leaves to the platform, when traced.
    """

    @jax.jit
    def run(bits: Array, result: Array, params: Any, batch: Experience) -> dict[int, HeadLoss]:
        def kept(equation: JaxprEqn) -> Rounding:
            where = site(equation, shape)
            precision = equation.params["precision"]
            if precision is None or jax.lax.Precision.HIGHEST not in precision:
                left.add(where)
            output = result if where == "head" else FLOAT32
            return Rounding(bits[SITES.index(where)], output)

        return rounded_products(partial(losses, shape, dtype, vocabularies), kept)(params, batch)

    return run


@dataclasses.dataclass(frozen=True)
class Answers:
    """A task whose responses are all solutions, so that each teaches the other of its question."""

    spec: str

    def questions(self, split: str, seed: int) -> Sequence[Question]:
        return load_questions(self.spec, split=split, seed=seed)

    def grade(self, question: Question, response: str) -> Grade:
        del question
        return Grade(1.0, response, "")


def experience(args: argparse.Namespace) -> tuple[DecoderConfig, Any, Experience]:
    """Shape and weights of the model, and its responses with both prompts."""
    trainer = Trainer(
        load_policy(args.model, dtype=jnp.float32),
        Answers(args.task),
        SDPO(teacher=TeacherConfig(max_prompt=4 * args.response + 1024)),
        optax.sgd(1e-3),
        rollout=RolloutConfig(
            questions=args.questions,
            samples=2,
            max_prompt=1024,
            max_response=args.response,
            row_buckets=1,
        ),
        evaluation=EvaluationConfig(questions=1, samples=1),
    )
    state = trainer.initial_state
    rollout = trainer.graded(state, *trainer.respond(state))
    batch, _ = trainer.packed(rollout, trainer.objective.prepare(rollout))
    params = trainer.student(state)
    shape = nnx.merge(trainer.policy.graphdef, params).config
    return shape, params, jax.tree.map(jnp.asarray, batch)


def graph(shape: DecoderConfig, dtype: str) -> Any:
    """The structure of the model for a compute dtype."""
    made = nnx.eval_shape(lambda: Decoder(shape, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype)))
    return nnx.split(made, nnx.Param)[0]


def more_words(head: Float[Array, "D V"], words: int) -> Float[Array, "D words"]:
    """The head with further columns, each of the length and direction of two random ones' mean."""
    missing = max(words - head.shape[1], 0)
    pairs = jax.random.randint(jax.random.key(0), (2, missing), 0, head.shape[1])
    return jnp.concatenate([head, (head[:, pairs[0]] + head[:, pairs[1]]) / math.sqrt(2)], axis=1)


def losses(
    shape: DecoderConfig, dtype: str, vocabularies: list[int], params: Any, batch: Experience
) -> dict[int, HeadLoss]:
    """The loss at each size of the vocabulary."""
    model, head = graph(shape, dtype), nnx.merge(graph(shape, "float32"), params).head()
    models = Models(model, student=params, teacher=params, temperature=1.0)
    student, _ = student_states(models, batch)
    teacher, _ = teacher_states(models, params, batch)
    found = {}
    for words in vocabularies:
        wide = more_words(head, words).astype(dtype)
        found[words] = sdpo_head_loss(
            student,
            teacher,
            wide,
            wide,
            batch.response,
            batch.response_mask,
            batch.sequence_mask,
            signal_mask=batch.signal_mask,
            chunk_size=128,
        )
    return found


def compared(out: HeadLoss, exact: HeadLoss, mask: np.ndarray) -> dict[str, float]:
    """How far a run is from the one in float32; per-token numbers over the responses."""

    def off(name: str) -> np.ndarray:
        return (np.asarray(getattr(out, name)) - np.asarray(getattr(exact, name)))[mask]

    def size(name: str) -> float:
        return float(np.sqrt(np.mean(off(name) ** 2)))

    change = float(out.information) - float(exact.information)
    return {
        "entropy_rms": size("student_entropy"),
        "entropy_mean": float(off("student_entropy").mean()),
        "gain_rms": size("gain"),
        "information": float(out.information),
        "information_change": change,
        "divergence_rms": size("divergence"),
        "loss_change": float(out.loss) / float(exact.loss) - 1,
        **{f"rho_change_{alpha:g}": math.expm1(alpha * change) for alpha in ALPHAS},
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="models/smollm2-135m-instruct")
    parser.add_argument("--task", default="synthetic:physics", help="as of pgpo train")
    parser.add_argument("--questions", type=int, default=8, help="each is answered twice")
    parser.add_argument("--response", type=int, default=48, help="tokens at most")
    parser.add_argument("--vocabulary", type=int, default=151_936, help="of the second head")
    add_json_flag(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    shape, params, batch = experience(args)
    mask = np.asarray(batch.response_mask, bool) & np.asarray(batch.signal_mask)[:, None]
    vocabularies = [shape.vocab_size, args.vocabulary]
    left: dict[str, set[str]] = {"float32": set(), "bfloat16": set()}
    runs = {
        dtype: rounded_losses(shape, dtype, vocabularies, sites) for dtype, sites in left.items()
    }
    for run in runs.values():
        # Traced here, so that the sites are known.
        jax.eval_shape(run, jnp.zeros(len(SITES), jnp.int32), jnp.int32(0), params, batch)
    rows, exact = [], {}
    for case in cases(left):
        numbers = jnp.asarray(case.bits, jnp.int32), jnp.int32(case.result)
        out = jax.device_get(runs[case.dtype](*numbers, params, batch))
        exact = exact or out
        for words in vocabularies:
            rows.append(
                {
                    "dtype": case.dtype,
                    "products": case.products,
                    "rounding": case.rounding,
                    "vocabulary": words,
                    **compared(out[words], exact[words], mask),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    entropy = {words: float(exact[words].student_entropy[mask].mean()) for words in vocabularies}
    given = sys.argv[1:] if arguments is None else arguments
    return report(
        "benchmarks.product_precision",
        given,
        rows,
        args.json,
        tokens=int(mask.sum()),
        left_to_the_platform={dtype: sorted(sites) for dtype, sites in left.items()},
        mean_entropy=entropy,
        information_deviation={
            words: float(np.std(exact[words].gain[mask], ddof=1)) for words in vocabularies
        },
    )


if __name__ == "__main__":
    main()
