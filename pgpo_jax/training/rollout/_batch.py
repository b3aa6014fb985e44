"""Packs a rollout into the arrays of one step."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import hesitation_count
from pgpo_jax.tasks.graders import FailedGrade
from pgpo_jax.training.config import RolloutConfig
from pgpo_jax.training.devices._mesh import gather_rows, process_local_rows
from pgpo_jax.training.rollout._buckets import bucket, pad
from pgpo_jax.training.rollout._policy import Policy, Responses
from pgpo_jax.training.rollout._records import Lesson, Rollout


class Experience(NamedTuple):
    """The arrays of one step.

    It has only the responses that an objective keeps, and the last rows may be padding. Prompts are
    padded on the left, responses on the right. On the host these are NumPy arrays of a process's
    own rows. In the step they are JAX arrays of all rows.

    With `rollout.share_prompts` each different prompt is stored once, and the owner of a row is the
    prompt that it continues. Otherwise the owners are `None`, and every row has its own prompt.

    Attributes:
        sequence_mask: sequences that count for the loss.
        signal_mask: sequences that count for the information.
        score: the grade; 0 on padding.
        columns: further numbers per row that an objective's loss reads; 0 on padding.
        further_prompt: K more prompts of the teacher, of as many rows as `teacher_prompt` or their
            own; `None`: the objective has none. So with its mask and its owners.
    """

    prompt: Int[Any, "U P"]
    prompt_mask: Bool[Any, "U P"]
    teacher_prompt: Int[Any, "V Q"]
    teacher_prompt_mask: Bool[Any, "V Q"]
    response: Int[Any, "R T"]
    response_mask: Bool[Any, "R T"]
    sampler_logprobs: Float[Any, "R T"]
    sequence_mask: Bool[Any, " R"]
    signal_mask: Bool[Any, " R"]
    score: Float[Any, " R"]
    columns: dict[str, Any] | None = None
    prompt_owner: Int[Any, " R"] | None = None
    teacher_prompt_owner: Int[Any, " R"] | None = None
    further_prompt: Int[Any, "W K Q"] | None = None
    further_prompt_mask: Bool[Any, "W K Q"] | None = None
    further_prompt_owner: Int[Any, "R K"] | None = None

    def each_further_prompt(self) -> tuple[Any, Any, Any]:
        """Prompts, masks and owners, the K first: what a scan takes one by one."""
        parts = (self.further_prompt, self.further_prompt_mask, self.further_prompt_owner)
        first, mask, owner = (None if x is None else x.swapaxes(0, 1) for x in parts)
        return first, mask, owner

    def taught_behind(self, prompts: tuple[Any, Any, Any]) -> "Experience":
        """The same rows, whose teacher reads one of `each_further_prompt`."""
        prompt, mask, owner = prompts
        return self._replace(
            teacher_prompt=prompt, teacher_prompt_mask=mask, teacher_prompt_owner=owner
        )


def pack(
    rollout: Rollout, lesson: Lesson, settings: RolloutConfig, *, longest_teacher_prompt: int = 1
) -> tuple[Experience, dict[str, np.ndarray]]:
    """Pack the responses that an objective keeps into arrays of a bucketed shape.

    Each process packs its own rows. Only numbers per row are exchanged.

    Args:
        rollout: the graded responses.
        lesson: the responses to keep and the teacher's prompts.
        settings: settings of lengths and buckets.
        longest_teacher_prompt: longest teacher prompt in tokens; 1 without a teacher.

    Returns:
        The arrays (on the host), and numbers per response of all processes. These are the numbers
        of `lesson.facts`, `score`, `kept`, `failed`, `length`, `hesitations`, `sampled`,
        `truncated` and `distinct`. `failed` is 1 if the grader failed; for `sampled` see `Rollout`.

    Raises:
        ValueError: a kept response lacks one of the teacher's further prompts.

    Added in version 0.2.0.
    """
    policy, responses, owners = rollout.policy, rollout.responses, rollout.owners
    kept = np.flatnonzero(lesson.kept)
    rows = gather_rows(
        {
            **lesson.facts,
            "score": rollout.scores,
            "sampled": rollout.sampled,
            "kept": lesson.kept,
            "failed": np.array([isinstance(grade, FailedGrade) for grade in rollout.grades]),
            "length": responses.lengths,
            "hesitations": np.array([hesitation_count(text) for text in responses.texts]),
            "truncated": _truncated(policy, responses),
            "distinct": _distinct(responses.texts, rollout.samples, rollout.kinds),
            "prompt": np.array([len(rollout.prompts[i]) for i in owners]) * lesson.kept,
            "teacher": np.array(
                [
                    max(
                        len(ids.get(row, ()))
                        for ids in (lesson.teacher_prompts, *lesson.further_prompts)
                    )
                    for row in range(len(owners))
                ]
            ),
            # The size of the batch if all processes kept as many rows as this one.
            "needed": np.full(len(owners), -(-len(kept) * rollout.total // len(owners))),
        },
        policy.mesh,
    )
    shape = _shape(rows, settings, longest_teacher_prompt)
    return _packed(rollout, lesson, kept.tolist(), shape, settings), rows


def rollout_metrics(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of the rollout before the step, from the numbers per row of `pack`.

    They describe the sampled responses, except the number of tokens that train.
    """
    sampled = rows["sampled"].astype(bool)
    score, length, truncated, failed, hesitations = (
        rows[name][sampled] for name in ("score", "length", "truncated", "failed", "hesitations")
    )
    return {
        "rollout/accuracy": float(score.mean()),
        "rollout/response_length": float(length.mean()),
        "rollout/response_length_max": float(length.max()),
        "rollout/hesitation_words": float(hesitations.mean()),
        "rollout/hesitation_words_per_1000_tokens": float(
            1000 * hesitations.sum() / max(length.sum(), 1)
        ),
        "rollout/truncated_fraction": float(truncated.mean()),
        "rollout/distinct_responses": float(rows["distinct"].mean()),
        "rollout/trained_tokens": float((rows["length"] * rows["kept"]).sum()),
        "rollout/grader_failures": float(failed.sum()),
    }


class _Shape(NamedTuple):
    """The total number of rows and the widths in tokens, the same in every process."""

    rows: int
    prompt: int
    teacher: int
    response: int


def _shape(rows: dict[str, np.ndarray], settings: RolloutConfig, longest_teacher: int) -> _Shape:
    rung = settings.rows // settings.row_buckets

    def width(lengths: np.ndarray, largest: int) -> int:
        longest = max(int(lengths.max()), 1)
        return bucket(longest, smallest=settings.smallest_bucket, largest=largest)

    return _Shape(
        rung * max(1, -(-int(rows["needed"].max()) // rung)),
        width(rows["prompt"], settings.max_prompt),
        width(rows["teacher"], longest_teacher),
        width(rows["length"] * rows["kept"], settings.max_response),
    )


def _packed(
    rollout: Rollout, lesson: Lesson, kept: list[int], shape: _Shape, settings: RolloutConfig
) -> Experience:
    policy, responses, owners = rollout.policy, rollout.responses, rollout.owners
    rows = len(process_local_rows(shape.rows, policy.mesh))

    def packed(ids: list[list[int]], width: int, side: str, count: int = rows):
        return pad(ids, count=count, width=width, fill=policy.pad_id, side=side)

    def prompts(ids: list[list[int]], width: int, usual: int, least: int = 0):
        if not settings.share_prompts:
            return *packed(ids, width, "left"), None
        places: dict[tuple[int, ...], int] = {}
        owner = [places.setdefault(tuple(x), len(places)) for x in ids]
        count = bucket(max(len(places), least), smallest=usual, largest=rollout.total)
        unique = packed([list(x) for x in places], width, "left", count)
        return *unique, np.array(owner + [0] * (rows - len(ids)), np.int32)

    def further() -> tuple[Any, Any, Any]:
        """All of one size: that of the most different ones."""
        for number, ids in enumerate(lesson.further_prompts):
            missing = [row for row in kept if row not in ids]
            if missing:
                raise PGPOValueError(
                    f"Lesson.further_prompts[{number}] must hold a prompt for each kept response, "
                    f"got none for the responses {missing}"
                )
        lists = [[ids[row] for row in kept] for ids in lesson.further_prompts]
        if not lists:
            return None, None, None
        most = max(len({tuple(x) for x in ids}) for ids in lists)
        parts = [prompts(ids, shape.teacher, 2 * settings.questions, most) for ids in lists]
        first, mask, owner = zip(*parts, strict=True)
        shared = None if owner[0] is None else np.stack(owner, axis=1)
        return np.stack(first, axis=1), np.stack(mask, axis=1), shared

    prompt, prompt_mask, prompt_owner = prompts(
        [rollout.prompts[owners[row]] for row in kept], shape.prompt, settings.questions
    )
    # Usually a group's first success is shown to all others, and the second success to the first.
    teacher, teacher_mask, teacher_owner = prompts(
        [lesson.teacher_prompts.get(row, []) for row in kept], shape.teacher, 2 * settings.questions
    )
    response, response_mask = packed(
        [responses.tokens[row][responses.mask[row]].tolist() for row in kept],
        shape.response,
        "right",
    )
    logprobs = np.zeros(response.shape, np.float32)
    for i, row in enumerate(kept):
        valid = responses.logprobs[row][responses.mask[row]]
        logprobs[i, : len(valid)] = valid
    everything = np.ones(len(owners), bool)
    trained = everything if lesson.trained is None else lesson.trained
    measured = trained if lesson.measured is None else lesson.measured

    def rowwise(values: Any) -> Any:
        chosen = values[kept]
        return np.concatenate([chosen, np.zeros(rows - len(kept), chosen.dtype)])

    columns = {name: rowwise(values) for name, values in lesson.columns.items()}
    return Experience(
        prompt,
        prompt_mask,
        teacher,
        teacher_mask,
        response,
        response_mask,
        logprobs,
        rowwise(trained),
        rowwise(measured),
        rowwise(rollout.scores.astype(np.float32)),
        columns or None,
        prompt_owner,
        teacher_owner,
        *further(),
    )


def _truncated(policy: Policy, responses: Responses) -> Bool[np.ndarray, " N"]:
    """True for responses that did not reach their end."""
    last = [row[keep][-1] if keep.any() else -1 for row, keep in zip(*responses[:2], strict=True)]
    return np.array([token not in policy.eos_ids for token in last])


def _distinct(texts: list[str], samples: int, kinds: int) -> Int[np.ndarray, " questions"]:
    """Number of different sampled responses to each question."""
    groups = [texts[i : i + samples // kinds] for i in range(0, len(texts), samples)]
    return np.array([len(set(group)) for group in groups])
