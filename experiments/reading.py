"""What student and teacher make of questions, before a response is sampled: `python -m
experiments.reading --model FOLDER --task QUESTIONS`.

SDPO can teach only what its teacher reads from the solution that it is shown. This measures it
before training, with one forward pass a question. For the first token of the response it reports
the mass on the option letters and the probability of the right letter. It also reports how often
the most likely letter is right, and the entropy. The student sees the question alone. The teacher
sees the question and its answer, as a peer's solution. Intervals are 95 %, over questions.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import encode
from pgpo_jax.paths import with_local_paths
from pgpo_jax.reports import mean_interval
from pgpo_jax.tasks import ColumnsConfig, Question, load_questions, teacher_prompt
from pgpo_jax.training import Policy, load_policy

_AT_ONCE = 8


@dataclass(frozen=True)
class Config:
    """What is read, and by what."""

    model: str = "models/smollm2-135m-instruct"
    task: str = "synthetic:physics"
    """Questions with option letters for answers."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    questions: int = 24
    """The first ones whose prompts are short enough."""
    max_prompt: int = 128
    """Of the student, in tokens; longer questions are left out."""
    json: Path | None = None
    """Where to write the numbers, too."""


def read(
    policy: Policy, params: Any, questions: Sequence[Question]
) -> dict[str, dict[str, Float[np.ndarray, " Q"]]]:
    """The numbers of the table by question, of `student` and of `teacher`.

    Args:
        policy: encodes.
        params: its weights.
        questions: answered by an option letter A to D.
    """
    letters = jnp.array([encode(policy.tokenizer, letter)[0] for letter in "ABCD"])

    @jax.jit
    def first(
        params: Any, tokens: Float[Array, "B T"], mask: Float[Array, "B T"]
    ) -> tuple[Float[Array, "B 4"], Float[Array, " B"]]:
        logits = nnx.merge(policy.graphdef, params)(tokens, mask)[:, -1]
        logprobs = jax.nn.log_softmax(logits)
        chances = jnp.exp(logprobs)
        return chances[:, letters], -jnp.sum(chances * logprobs, -1)

    right = np.array(["ABCD".index(question.answer) for question in questions])
    prompts = {
        "student": [policy.encode_question(question) for question in questions],
        "teacher": [
            policy.encode(q.messages_with(teacher_prompt(q, solution=q.answer))) for q in questions
        ],
    }
    found = {}
    for name, rows in prompts.items():
        width = max(map(len, rows))
        parts = []
        for start in range(0, len(rows), _AT_ONCE):
            # A full batch each time, so that the last one does not compile anew.
            chunk = (rows[start:] + rows)[:_AT_ONCE] if len(rows) >= _AT_ONCE else rows
            tokens, mask = (np.zeros((len(chunk), width), np.int32) for _ in range(2))
            for place, ids in enumerate(chunk):
                tokens[place, width - len(ids) :], mask[place, width - len(ids) :] = ids, 1
            parts.append(jax.device_get(first(params, tokens, mask)))
        chances = np.concatenate([part[0] for part in parts])[: len(rows)]
        entropy = np.concatenate([part[1] for part in parts])[: len(rows)]
        found[name] = {
            "mass on letters": chances.sum(1),
            "P(right)": chances[np.arange(len(rows)), right],
            "likeliest is right": (chances.argmax(1) == right).astype(float),
            "entropy (nats)": entropy,
        }
    return found


def summary(found: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """A row for each reader: means with 95 % intervals."""
    # No vocabulary has an entropy of more nats; the others are shares.
    high = {"entropy (nats)": 16.0}
    return [
        {"reader": name}
        | {
            key: mean_interval(values.tolist(), high=high.get(key, 1.0)).text()
            for key, values in numbers.items()
        }
        for name, numbers in found.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m experiments.reading`."""
    config = tyro.cli(Config, args=argv, description=__doc__)
    try:
        config = with_local_paths(config)
        policy, params = load_policy(config.model, dtype="float32")
        asked = load_questions(config.task, columns=config.columns)
        short = [q for q in asked if len(policy.encode_question(q)) <= config.max_prompt]
        short = short[: config.questions]
        if not short:
            raise PGPOValueError(
                f"max_prompt must be long enough for a question, got {config.max_prompt}"
            )
        rows = summary(read(policy, params, short))
    except (ValueError, OSError) as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    print(f"{config.model}, {len(short)} questions of {config.task}")
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    if config.json is not None:
        config.json.write_text(json.dumps({"questions": len(short), "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
