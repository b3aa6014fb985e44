import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import jax

from pgpo_jax.cli._defaults import expanded
from pgpo_jax.cli._eval import check_max_num_seqs, check_seed, first_questions, given_task
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.flags import parse
from pgpo_jax.reports import printable
from pgpo_jax.tasks import ColumnsConfig, Grade, GraderConfig, Question, grade_all
from pgpo_jax.training import (
    EngineConfig,
    MeshConfig,
    RolloutConfig,
    load_policy,
    make_engine,
    make_mesh,
)
from pgpo_jax.training.memory._search import refuse_too_large_to_sample


@dataclass(frozen=True)
class SampleCommand:
    """Prints questions and a model's answers to them, with the grade of each."""

    model: str = "tiny"
    """Folder of a Hugging Face model (Llama, Mistral, Qwen2 or Qwen3), a Hub id, or `tiny`."""
    task: str = "synthetic:all"
    """The task, as for `pgpo train --task`."""
    grader: GraderConfig = field(default_factory=GraderConfig)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    prompt: str | None = None
    """A question of your own instead, which is not graded."""
    system: str = ""
    """System message for --prompt."""
    split: Literal["test", "train"] = "test"
    """The split, of a task with two splits. A single file has one split only."""
    questions: int = 1
    """Number of questions, from the first."""
    samples: int = 4
    """Answers per question."""
    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""
    top_p: float = 1.0
    top_k: int | None = None
    """Number of most likely tokens to sample from; all by default."""
    thinking: bool = False
    """Let the model think first, if the chat template has this option."""
    max_prompt: int = 2048
    """Limit of a question, in tokens. A longer question is an error."""
    max_response: int = 512
    """Limit of an answer, in tokens."""
    max_num_seqs: int | None = None
    """Number of answers decoded at a time. When one has ended, a waiting one takes its place. By
    default all of a batch."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the computation and of the weights in memory."""
    mesh: MeshConfig = field(default_factory=MeshConfig)


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo sample`."""
    command = parse(SampleCommand, "pgpo sample", expanded(argv))
    if command.questions < 1 or command.samples < 1:
        raise PGPOValueError(
            "--questions and --samples must be positive, "
            f"got {command.questions} and {command.samples}"
        )
    check_seed(command.seed)
    task = None
    if command.prompt is None:
        task = given_task(command.task, command.columns, command.grader)
        questions = first_questions(task, command.split, command.questions)
    else:
        questions = [Question("prompt", "", command.system, command.prompt, "")]
    # The answers to a question are spread over the devices. Each device reads the question itself.
    readers = command.mesh.row_shards
    rollout = RolloutConfig(
        questions=readers,
        samples=-(-command.samples // readers),
        max_prompt=command.max_prompt,
        max_response=command.max_response,
        smallest_bucket=64,
        row_buckets=1,
        max_num_seqs=command.max_num_seqs,
    )
    check_max_num_seqs(command.max_num_seqs, readers)
    engine = make_engine(command.engine, command.max_num_seqs)
    mesh = make_mesh(command.mesh)
    # A server samples on its own devices.
    if command.engine.name != "vllm":
        refuse_too_large_to_sample(command.model, command.mesh, command.dtype, rollout)
    policy, params = load_policy(
        command.model, mesh=mesh, dtype=command.dtype, param_dtype=command.dtype
    )
    key = jax.random.key(command.seed)
    for number, question in enumerate(questions):
        ids = policy.encode_question(question, thinking=command.thinking)
        if len(ids) > command.max_prompt:
            raise PGPOValueError(
                f"question {question.id} has {len(ids)} tokens: raise --max-prompt, "
                f"now {command.max_prompt}"
            )
        responses = policy.respond(
            params,
            [ids] * readers,
            jax.random.fold_in(key, number),
            samples=rollout.samples,
            max_new_tokens=rollout.max_response,
            temperature=command.temperature,
            top_p=command.top_p,
            top_k=command.top_k,
            smallest_bucket=rollout.smallest_bucket,
            largest_prompt=rollout.max_prompt,
            engine=engine,
            logprobs=False,
        )
        texts = responses.texts[: command.samples]
        lengths = responses.lengths[: command.samples].tolist()
        grades = None
        if task is not None:
            asked, limit = [question] * len(texts), command.grader.timeout
            grades = grade_all(task, asked, texts, timeout=limit)[0]
        _show(question, texts, lengths, grades)


def _show(
    question: Question, texts: list[str], lengths: list[int], grades: list[Grade] | None
) -> None:
    print(f"=== {printable(question.id)}")
    for message in question.messages[:-1]:
        print(f"[{message.role}] {printable(message.content)}")
    print(printable(question.prompt))
    for number, (text, length) in enumerate(zip(texts, lengths, strict=True), 1):
        verdict = "" if grades is None else _verdict(grades[number - 1])
        print(f"--- answer {number} ({length} tokens{verdict})\n{printable(text)}")
    if grades is not None:
        print(f"--- right answer: {printable(question.answer)}")


def _verdict(grade: Grade) -> str:
    # Without answer tags the whole text is the prediction.
    got = textwrap.shorten(printable(grade.prediction or "no answer"), 40)
    words = {1.0: "right", 0.0: "wrong"}.get(grade.score, f"score {grade.score:g}")
    return f", {words}: {got}"
