"""Rows of several kinds in one rollout: first and second answers, and what is learnt besides."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from pgpo_jax.tasks import Grade
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._policy import Responses
from pgpo_jax.training.rollout._records import Rollout

# The kinds of rows, in their order.
FIRST, SECOND, EXTRA = range(3)


def behind_its_prompt(batch: Experience) -> Experience:
    """The rows with the prompts that others have for a teacher as the student's."""
    return batch._replace(
        prompt=batch.teacher_prompt,
        prompt_mask=batch.teacher_prompt_mask,
        prompt_owner=batch.teacher_prompt_owner,
    )


def masked(responses: Responses, kept: Bool[np.ndarray, " N"]) -> Responses:
    """The responses, without a token where they are not kept."""
    texts = [text if keep else "" for text, keep in zip(responses.texts, kept, strict=True)]
    return responses._replace(mask=np.asarray(responses.mask) & kept[:, None], texts=texts)


def joined(rollout: Rollout, parts: Sequence[Responses], grades: Sequence[list[Grade]]) -> Rollout:
    """The rows of all kinds, those to one question together."""
    kinds, samples, count = len(parts), rollout.samples, len(rollout.questions)
    width = max(part.tokens.shape[1] for part in parts)

    def interleaved(arrays: Sequence[np.ndarray]) -> np.ndarray:
        padded = [np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in map(np.asarray, arrays)]
        stacked = np.stack([x.reshape(count, samples, width) for x in padded], axis=1)
        return stacked.reshape(count * kinds * samples, width)

    order = [
        (kind, question * samples + sample)
        for question in range(count)
        for kind in range(kinds)
        for sample in range(samples)
    ]
    joined = Responses(
        interleaved([part.tokens for part in parts]),
        interleaved([part.mask for part in parts]),
        interleaved([part.logprobs for part in parts]),
        [parts[kind].texts[row] for kind, row in order],
    )
    return rollout._replace(
        samples=kinds * samples,
        total=kinds * rollout.total,
        responses=joined,
        grades=[grades[kind][row] for kind, row in order],
        kinds=kinds,
    )


def first_answers(rollout: Rollout, samples: int) -> Rollout:
    """The rollout of the first answers alone."""
    rows = np.flatnonzero(rollout.sampled)
    responses = rollout.responses
    return rollout._replace(
        samples=samples,
        total=rollout.total // rollout.kinds,
        responses=Responses(
            responses.tokens[rows],
            responses.mask[rows],
            responses.logprobs[rows],
            [responses.texts[row] for row in rows],
        ),
        grades=[rollout.grades[row] for row in rows],
        kinds=1,
    )
