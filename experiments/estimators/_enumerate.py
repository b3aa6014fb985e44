"""The language model's own conditional mutual information, by enumeration over feedback.

The feedback f is one of nine solutions of the question: three methods (one of them right), each in
three wordings. The teachers are the same weights that have read one of them. At every prefix of a
response

    q(y) = sum_f w_f q_f(y),    I = sum_f w_f KL(q_f || q)

is exact: the vocabulary and the feedbacks are summed over. Two laws give the weights. *Rollouts*,
as in training: the student wrote the response and f is independent of it, w is uniform. *Paired*:
teacher f wrote it, and w is the posterior of f given the words so far.
"""

import functools as ft
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.estimators._length import LAWS
from experiments.estimators._moments import FEEDBACK_ONLY
from experiments.estimators._variants import Variant
from pgpo_jax.information import ESTIMATORS
from pgpo_jax.tasks import teacher_prompt
from pgpo_jax.tasks.synthetic import OPENERS, SyntheticQuestions, solution_text
from pgpo_jax.training import Policy

SETS = {"right": len(OPENERS), "any": 3 * len(OPENERS)}
"""How many of the solutions, in their order, belong to a set: the right ones come first."""
STUDENTS = ("mixture", "model")
MAX_RESPONSE = 20
_WIDTH = 96


class Texts(NamedTuple):
    """Questions, the prompts of both sides, and responses of two authors, as arrays.

    Rows 0..R-1 of `response` are the student's own; row R + f is teacher f's.
    """

    prompt: Int[np.ndarray, "Q P"]
    prompt_mask: Bool[np.ndarray, "Q P"]
    teacher_prompt: Int[np.ndarray, "Q F P"]
    teacher_prompt_mask: Bool[np.ndarray, "Q F P"]
    response: Int[np.ndarray, "Q S T"]
    response_mask: Bool[np.ndarray, "Q S T"]


class Enumeration(NamedTuple):
    """Nats per token, at every prefix; keys are (set, law) and names.

    Attributes:
        information: the exact I.
        weights: w, by feedback.
        mixture: estimates of each feedback with the exact mixture as student.
        model: the same with the model without feedback as student; the pointwise one scores the
            words of the response.
        varied: estimates averaged over all feedbacks (uniformly), by variant and student.
    """

    information: dict[tuple[str, str], Float[Any, "Q S T"]]
    weights: dict[tuple[str, str], Float[Any, "Q F S T"]]
    mixture: dict[tuple[str, str, str], Float[Any, "Q F S T"]]
    model: dict[str, Float[Any, "Q F S T"]]
    varied: dict[tuple[int, str, str], Float[Any, "Q S T"]]


def write_texts(
    policy: Policy, params: Any, key: Key[Array, ""], *, questions: int, rollouts: int
) -> Texts:
    """Held-out questions, their solutions, and sampled responses at temperature 1."""
    source = SyntheticQuestions("all", split="test", seed=0)
    asked = [source[i] for i in range(questions)]
    shown = [
        [
            solution_text(problem, method, opener=opener)
            for method in problem.methods
            for opener in OPENERS
        ]
        for problem in (source.problem(i) for i in range(questions))
    ]
    prompts = [policy.encode_question(question) for question in asked]
    taught = [
        policy.encode(question.messages_with(teacher_prompt(question, solution=text)))
        for question, texts in zip(asked, shown, strict=True)
        for text in texts
    ]
    keys = jax.random.split(key)
    width = max(map(len, taught))

    def respond(ids: list[list[int]], which: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
        out = policy.respond(
            params,
            ids,
            keys[which],
            samples=samples,
            max_new_tokens=MAX_RESPONSE,
            temperature=1.0,
            top_p=1.0,
            smallest_bucket=_WIDTH,
            largest_prompt=max(_WIDTH, width),
        )
        shape = (questions, -1, MAX_RESPONSE)
        return out.tokens.reshape(shape), out.mask.reshape(shape)

    own, own_mask = respond(prompts, 0, rollouts)
    theirs, theirs_mask = respond(taught, 1, 1)
    feedbacks = SETS["any"]
    teacher, teacher_mask = _left(taught, width, policy.pad_id)
    return Texts(
        *_left(prompts, max(map(len, prompts)), policy.pad_id),
        teacher.reshape(questions, feedbacks, width),
        teacher_mask.reshape(questions, feedbacks, width),
        np.concatenate([own, theirs], axis=1),
        np.concatenate([own_mask, theirs_mask], axis=1),
    )


def _left(rows: list[list[int]], width: int, fill: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.full((len(rows), width), fill, np.int32)
    mask = np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        tokens[i, width - len(row) :] = row
        mask[i, width - len(row) :] = True
    return tokens, mask


def enumerate_feedback(
    policy: Policy, params: Any, texts: Texts, variants: tuple[Variant, ...] = ()
) -> Enumeration:
    """Every estimator for every feedback at every prefix, one question at a time."""

    @jax.jit
    def all_questions(params: Any, texts: Texts) -> Enumeration:
        return jax.lax.map(ft.partial(_question, policy.graphdef, params, variants), texts)

    return all_questions(params, jax.tree.map(jnp.asarray, texts))


def _question(graphdef: Any, params: Any, variants: tuple[Variant, ...], texts: Texts):
    feedbacks, rows = texts.teacher_prompt.shape[0], texts.response.shape[0]
    model = nnx.merge(graphdef, params)

    def logits(prompt: Any, mask: Any) -> Float[Array, "N T V"]:
        """Behind each of N prompts, all S responses: N = 1 or F, rows N S."""
        each = prompt.shape[0]
        answers = jnp.tile(texts.response, (each, 1))
        valid = jnp.tile(texts.response_mask, (each, 1))
        tokens = jnp.concatenate([jnp.repeat(prompt, rows, 0), answers[:, :-1]], axis=1)
        seen = jnp.concatenate([jnp.repeat(mask, rows, 0), valid[:, :-1]], axis=1)
        hidden = model.hidden_states(tokens, seen)[:, prompt.shape[1] - 1 :]
        return jnp.matmul(hidden, model.head(), preferred_element_type=jnp.float32)

    student = logits(texts.prompt[None], texts.prompt_mask[None])
    teachers = logits(texts.teacher_prompt, texts.teacher_prompt_mask)
    teachers = teachers.reshape(feedbacks, *student.shape)
    log_q = jax.nn.log_softmax(teachers)
    spoken = jnp.take_along_axis(log_q, texts.response[None, ..., None], axis=-1)[..., 0]
    spoken = jnp.where(texts.response_mask, spoken, 0.0)
    # Of the words before each one.
    evidence = jnp.cumsum(spoken, axis=-1) - spoken

    def values(student: Array, teachers: Array, names: tuple[str, ...]) -> dict[str, Array]:
        student = jnp.broadcast_to(student, teachers.shape)
        words = jnp.broadcast_to(texts.response, teachers.shape[:-1])
        return {name: ESTIMATORS[name](student, teachers, words) for name in names}

    information, weights, mixture, mixtures = {}, {}, {}, {}
    for group, count in SETS.items():
        for law in LAWS:
            flat = jnp.zeros_like(evidence[:count])
            w = jax.nn.softmax(evidence[:count] if law == "paired" else flat, axis=0)
            mixed = jax.nn.logsumexp(jnp.log(w)[..., None] + log_q[:count], axis=0)
            gain = jnp.sum(jnp.exp(log_q[:count]) * (log_q[:count] - mixed), axis=-1)
            information[group, law] = jnp.sum(w * gain, axis=0)
            weights[group, law] = w
            for name, value in values(mixed, teachers[:count], FEEDBACK_ONLY).items():
                mixture[group, law, name] = value
            mixtures[group, law] = mixed
    students, varied = {"mixture": mixtures["any", "rollouts"], "model": student}, {}
    for number, variant in enumerate(variants):
        for who, logits_of in students.items():
            left, right = variant.prepare(jnp.broadcast_to(logits_of, teachers.shape), teachers)
            for name in FEEDBACK_ONLY:
                varied[number, who, name] = jnp.mean(ESTIMATORS[name](left, right, None), axis=0)
    return Enumeration(
        information, weights, mixture, values(student, teachers, tuple(ESTIMATORS)), varied
    )
