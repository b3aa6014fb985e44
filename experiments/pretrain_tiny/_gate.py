"""What a base model must be able to do before it is shipped, measured on the test split."""

from __future__ import annotations

import functools as ft
from collections import defaultdict
from dataclasses import dataclass

import jax
import numpy as np
from tokenizers import Tokenizer

from experiments.pretrain_tiny._data import chat_ids
from pgpo_jax.models import Qwen3, sample
from pgpo_jax.tasks import Question, grade, teacher_prompt
from pgpo_jax.tasks.synthetic import SyntheticQuestions, solution_text

UNAIDED = (0.35, 0.60)
AIDED = 0.98
_MAX_RESPONSE = 28


@dataclass(frozen=True)
class GateReport:
    """Accuracies of sampled answers at temperature 1, by exact match.

    Attributes:
        unaided: on the question alone.
        aided: when a right solution is shown.
        misled: how often the answer is that of the solution shown when that is wrong.
        by_kind: unaided accuracy of each kind of question.
        samples: sampled answers behind `unaided`.
    """

    unaided: float
    aided: float
    misled: float
    by_kind: dict[str, float]
    samples: int

    @property
    def passed(self) -> bool:
        """Whether the model may be shipped."""
        return UNAIDED[0] <= self.unaided <= UNAIDED[1] and self.aided >= AIDED


def measure(
    model: Qwen3, tokenizer: Tokenizer, *, questions: int = 256, samples: int = 4, seed: int = 0
) -> GateReport:
    """Samples answers to held-out questions and grades them.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        questions: how many of the test split.
        samples: answers per question.
        seed: of the stream of questions and of the sampling.

    Returns:
        The accuracies.
    """
    source = SyntheticQuestions("all", split="test", seed=seed)
    problems = [source.problem(i) for i in range(questions)]
    asked = [source[i] for i in range(questions)]
    answer = ft.partial(_answers, model, tokenizer, samples=samples)
    plain = answer([chat_ids(tokenizer, q.system, q.prompt) for q in asked], key=seed)
    hits = _scores(plain, asked)
    kinds = defaultdict(list)
    for problem, row in zip(problems, hits, strict=True):
        kinds[problem.kind].extend(row)

    def shown(which: int) -> tuple[list[list[int]], list[Question]]:
        prompts, wanted = [], []
        for problem, question in zip(problems, asked, strict=True):
            method = problem.methods[which]
            user = teacher_prompt(question, solution=solution_text(problem, method))
            prompts.append(chat_ids(tokenizer, question.system, user))
            letter = problem.letter(problem.values[which])
            wanted.append(Question("", "", "", "", letter))
        return prompts, wanted

    right, right_answers = shown(0)
    wrong, wrong_answers = shown(1)
    return GateReport(
        unaided=float(np.mean(hits)),
        aided=float(np.mean(_scores(answer(right, key=seed + 1), right_answers))),
        misled=float(np.mean(_scores(answer(wrong, key=seed + 2), wrong_answers))),
        by_kind={name: float(np.mean(values)) for name, values in sorted(kinds.items())},
        samples=int(np.size(hits)),
    )


def _scores(responses: list[list[str]], questions: list[Question]) -> np.ndarray:
    return np.array(
        [
            [grade(text, question.answer).score for text in texts]
            for texts, question in zip(responses, questions, strict=True)
        ]
    )


def _answers(
    model: Qwen3, tokenizer: Tokenizer, prompts: list[list[int]], *, samples: int, key: int
) -> list[list[str]]:
    width = -(-max(map(len, prompts)) // 16) * 16
    tokens = np.zeros((len(prompts), width), np.int32)
    mask = np.zeros((len(prompts), width), np.int32)
    for row, ids in enumerate(prompts):
        tokens[row, width - len(ids) :] = ids
        mask[row, width - len(ids) :] = 1
    end, pad = model.config.eos_token_id, model.config.pad_token_id
    assert end is not None
    assert pad is not None
    out = sample(
        model,
        tokens,
        mask,
        jax.random.key(key),
        max_new_tokens=_MAX_RESPONSE,
        eos_id=end,
        pad_id=pad,
        samples_per_prompt=samples,
    )
    texts = tokenizer.decode_batch(np.asarray(out.tokens).tolist(), skip_special_tokens=True)
    return [texts[i : i + samples] for i in range(0, len(texts), samples)]
