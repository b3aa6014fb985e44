from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from pgpo_jax.tasks import Grade, Question, grade, select_solutions, strip_thinking, teacher_prompt
from pgpo_jax.training.config._train_config import TrainConfig
from pgpo_jax.training.devices._mesh import gather_rows, process_local_rows
from pgpo_jax.training.rollout._buckets import bucket, pad
from pgpo_jax.training.rollout._policy import Policy, Responses
from pgpo_jax.training.rollout._stream import Batch

# Sets this stream of random numbers apart from others of the same seed and step.
_MISLEADING = 1


class Experience(NamedTuple):
    """The arrays of one step. Only sequences with a teacher signal are kept (with GRPO all of
    them); the last rows may be padding. Prompts are padded on the left, responses on the right.
    NumPy arrays of a process's own rows on the host, JAX arrays of all rows in the step.

    With `rollout.share_prompts` each different prompt stands once, and an owner tells which one a
    row continues; else the owners are `None` and every row has its own.

    Attributes:
        sequence_mask: sequences that enter the loss.
        signal_mask: sequences that enter the information; the same ones, unless
            `information.half` or `information.rows` tells them apart.
        score: the grade; 0 on padding.
        advantage: for GRPO, the score less the mean of its group; else `None`.
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
    advantage: Float[Any, " R"] | None = None
    prompt_owner: Int[Any, " R"] | None = None
    teacher_prompt_owner: Int[Any, " R"] | None = None


def make_experience(
    policy: Policy, batch: Batch, responses: Responses, config: TrainConfig, *, step: int = 0
) -> tuple[Experience, dict[str, float]]:
    """Grades the responses, writes the teacher prompts and packs what has a teacher signal.

    With method `grpo` there are no teacher prompts and every response is packed. Each process does
    so for its own rows; only numbers per row are exchanged.

    Args:
        policy: encodes the teacher prompts.
        batch: the questions.
        responses: `config.rollout.samples` of them to each question.
        config: the settings of teacher and signal.
        step: counted from 0; decides which solutions are replaced if `teacher.misleading`.

    Returns:
        The arrays (on the host), and the metrics that are known before the step.
    """
    settings, mesh = config.rollout, policy.mesh
    owners = np.repeat(np.arange(len(batch.questions)), settings.samples)
    grades = [
        grade(text, batch.questions[i].answer)
        for text, i in zip(responses.texts, owners, strict=True)
    ]
    scores = np.array([g.score for g in grades])
    if config.method == "grpo":
        # Every response trains, and there is no teacher to prompt.
        teacher_ids = {row: [] for row in np.flatnonzero(responses.mask.any(1)).tolist()}
        mixed = _advantages(scores, settings.samples).reshape(-1, settings.samples).any(1)
        columns = {"mixed": mixed}
    else:
        teacher_ids, columns = _teach(policy, batch, responses, owners, grades, config, step)
    kept = np.isin(np.arange(len(owners)), list(teacher_ids))
    rows = gather_rows(
        {
            **columns,
            "score": scores,
            "kept": kept,
            "length": responses.lengths,
            "truncated": _truncated(policy, responses),
            "distinct": _distinct(responses.texts, settings.samples),
            "prompt": np.array([len(batch.prompts[i]) for i in owners]) * kept,
            "teacher": np.array([len(teacher_ids.get(row, ())) for row in range(len(owners))]),
            # What the batch would hold if all processes kept as many as this one.
            "needed": np.full(len(owners), -(-len(teacher_ids) * settings.rows // len(owners))),
        },
        mesh,
    )
    metrics = {
        "rollout/accuracy": float(rows["score"].mean()),
        "rollout/response_length": float(rows["length"].mean()),
        "rollout/response_length_max": float(rows["length"].max()),
        "rollout/truncated_fraction": float(rows["truncated"].mean()),
        "rollout/distinct_responses": float(rows["distinct"].mean()),
        "rollout/dropped_questions": float(batch.dropped),
        "rollout/trained_tokens": float((rows["length"] * rows["kept"]).sum()),
        **_signal_metrics(rows, config),
    }
    shape = _shape(rows, config)
    return _pack(policy, batch, responses, owners, scores, teacher_ids, shape, config), metrics


def _signal_metrics(rows: dict[str, np.ndarray], config: TrainConfig) -> dict[str, float]:
    """What there is to learn from, over the rows of all processes."""
    if config.method == "grpo":
        return {"policy/mixed_group_fraction": float(rows["mixed"].mean())}
    settings = config.rollout
    success = rows["score"].reshape(-1, settings.samples) >= config.teacher.success_threshold
    shown = max(int(rows["shown"].sum()), 1)
    return {
        "self_distillation/misleading_fraction": int(rows["replaced"].sum()) / shown,
        "self_distillation/misleading_unavailable": float(rows["unavailable"].sum()),
        "self_distillation/success_group_fraction": float(success.any(1).mean()),
        "self_distillation/success_sample_fraction": float(rows["solved"].mean()),
        "self_distillation/reprompt_sample_fraction": int(rows["kept"].sum()) / settings.rows,
        "self_distillation/dropped_teacher_prompts": float(rows["overlong"].sum()),
    }


def _teach(
    policy: Policy,
    batch: Batch,
    responses: Responses,
    owners: Int[np.ndarray, " N"],
    grades: list[Grade],
    config: TrainConfig,
    step: int,
) -> tuple[dict[int, list[int]], dict[str, np.ndarray]]:
    """The teacher prompts of the responses that have a teacher signal, by row; facts per row."""
    scores = np.array([g.score for g in grades])
    chosen, solved = select_solutions(
        scores,
        owners,
        threshold=config.teacher.success_threshold,
        exclude_self=config.teacher.exclude_self,
    )
    rng = np.random.default_rng([config.seed, step, _MISLEADING])
    draws = rng.random(config.rollout.rows)[process_local_rows(config.rollout.rows, policy.mesh)]
    chosen, misled = _mislead(chosen, scores, owners, config, draws)
    teacher_ids: dict[int, list[int]] = {}
    overlong = np.zeros(len(owners), bool)
    for row, owner in enumerate(owners):
        text = _teacher_text(
            batch.questions[owner], row, chosen, responses.texts, grades[row], config
        )
        if text is None or not responses.mask[row].any():
            continue
        ids = policy.encode(batch.questions[owner].system, text)
        if len(ids) > config.teacher.max_prompt:
            overlong[row] = True
        else:
            teacher_ids[row] = ids
    return teacher_ids, misled | {"solved": solved, "overlong": overlong}


def _mislead(
    chosen: Int[np.ndarray, " N"],
    scores: Float[np.ndarray, " N"],
    owners: Int[np.ndarray, " N"],
    config: TrainConfig,
    draws: Float[np.ndarray, " N"],
) -> tuple[Int[np.ndarray, " N"], dict[str, np.ndarray]]:
    """Replaces some of the chosen solutions by the first wrong answer of their group."""
    settings, shown = config.teacher, chosen >= 0
    wrong, available = select_solutions(
        scores < settings.success_threshold, owners, exclude_self=settings.exclude_self
    )
    drawn = shown & (draws < settings.misleading)
    replaced = drawn & available
    return np.where(replaced, wrong, chosen), {
        "shown": shown,
        "replaced": replaced,
        "unavailable": drawn & ~available,
    }


def _teacher_text(
    question: Question,
    row: int,
    chosen: Int[np.ndarray, " N"],
    texts: list[str],
    own: Grade,
    config: TrainConfig,
) -> str | None:
    """The teacher's user message for one response, or `None` if it has no signal."""
    solution = texts[chosen[row]] if chosen[row] >= 0 else None
    if solution is not None and config.teacher.strip_thinking:
        solution = strip_thinking(solution)
    feedback = own.feedback if config.teacher.feedback and own.feedback.strip() else None
    if solution is not None and config.teacher.feedback_only_without_solution:
        feedback = None
    if solution is None and feedback is None:
        return None
    return teacher_prompt(question, solution=solution, feedback=feedback)


class _Shape(NamedTuple):
    """Rows in all, and the widths, in tokens: the same in every process."""

    rows: int
    prompt: int
    teacher: int
    response: int


def _shape(rows: dict[str, np.ndarray], config: TrainConfig) -> _Shape:
    settings = config.rollout
    rung = settings.rows // settings.row_buckets

    def width(lengths: np.ndarray, largest: int) -> int:
        longest = max(int(lengths.max()), 1)
        return bucket(longest, smallest=settings.smallest_bucket, largest=largest)

    return _Shape(
        rung * max(1, -(-int(rows["needed"].max()) // rung)),
        width(rows["prompt"], settings.max_prompt),
        width(rows["teacher"], config.teacher.max_prompt),
        width(rows["length"] * rows["kept"], settings.max_response),
    )


def _pack(
    policy: Policy,
    batch: Batch,
    responses: Responses,
    owners: Int[np.ndarray, " N"],
    scores: Float[np.ndarray, " N"],
    teacher_ids: dict[int, list[int]],
    shape: _Shape,
    config: TrainConfig,
) -> Experience:
    settings, kept = config.rollout, list(teacher_ids)
    rows = len(process_local_rows(shape.rows, policy.mesh))

    def packed(ids: list[list[int]], width: int, side: str, count: int = rows):
        return pad(ids, count=count, width=width, fill=policy.pad_id, side=side)

    def prompts(ids: list[list[int]], width: int, usual: int):
        if not settings.share_prompts:
            return *packed(ids, width, "left"), None
        places: dict[tuple[int, ...], int] = {}
        owner = [places.setdefault(tuple(x), len(places)) for x in ids]
        count = bucket(len(places), smallest=usual, largest=settings.rows)
        unique = packed([list(x) for x in places], width, "left", count)
        return *unique, np.array(owner + [0] * (rows - len(ids)), np.int32)

    prompt, prompt_mask, prompt_owner = prompts(
        [batch.prompts[owners[row]] for row in kept], shape.prompt, settings.questions
    )
    # Usually a group's first success is shown to all others, and the second one to the first.
    teacher, teacher_mask, teacher_owner = prompts(
        list(teacher_ids.values()), shape.teacher, 2 * settings.questions
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
    questions = process_local_rows(settings.questions, policy.mesh)[owners]
    even, half = questions[kept] % 2 == 0, config.information.half
    trained = even if half != "none" else np.ones(len(kept), bool)

    signal = ~even if half == "other" else trained
    if config.information.rows == "failures":
        signal = signal & (scores[kept] < config.teacher.success_threshold)

    def rowwise(values: Any) -> Any:
        return np.concatenate([values, np.zeros(rows - len(kept), values.dtype)])

    return Experience(
        prompt,
        prompt_mask,
        teacher,
        teacher_mask,
        response,
        response_mask,
        logprobs,
        rowwise(trained),
        rowwise(signal),
        rowwise(scores[kept].astype(np.float32)),
        rowwise(_advantages(scores, settings.samples)[kept]) if config.method == "grpo" else None,
        prompt_owner,
        teacher_owner,
    )


def _advantages(scores: Float[np.ndarray, " N"], samples: int) -> Float[np.ndarray, " N"]:
    """Scores less the mean of their group, not divided by its deviation."""
    groups = scores.reshape(-1, samples)
    return (groups - groups.mean(1, keepdims=True)).ravel().astype(np.float32)


def _truncated(policy: Policy, responses: Responses) -> Bool[np.ndarray, " N"]:
    """Which responses did not come to their end."""
    last = [row[keep][-1] if keep.any() else -1 for row, keep in zip(*responses[:2], strict=True)]
    return np.array([token not in policy.eos_ids for token in last])


def _distinct(texts: list[str], samples: int) -> Int[np.ndarray, " questions"]:
    """Number of different responses to each question."""
    groups = [texts[i : i + samples] for i in range(0, len(texts), samples)]
    return np.array([len(set(group)) for group in groups])
