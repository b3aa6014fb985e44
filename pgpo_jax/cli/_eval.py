import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import jax

from pgpo_jax._printable import printable_line
from pgpo_jax.cli._defaults import expanded
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.flags import parse
from pgpo_jax.paths import local_path
from pgpo_jax.reports import mean_interval
from pgpo_jax.tasks import (
    ColumnsConfig,
    FileTask,
    GraderConfig,
    Question,
    Task,
    load_task,
    make_grader,
)
from pgpo_jax.training import (
    DistributedConfig,
    EngineConfig,
    EvaluationConfig,
    MeshConfig,
    RolloutConfig,
    connect,
    evaluate,
    is_first,
    load_policy,
    make_engine,
    make_mesh,
)
from pgpo_jax.training.memory._search import refuse_too_large_to_sample

_ENDLESS = 64


@dataclass(frozen=True)
class EvalCommand:
    """Samples answers to held-out questions and prints avg@n, the share of right answers."""

    model: str = "tiny"
    """Folder of a Hugging Face model (Llama, Mistral, Qwen2 or Qwen3), a Hub id, or `tiny`."""
    task: str = "synthetic:all"
    """The task, as for `pgpo train --task`."""
    split: Literal["test", "train"] = "test"
    """The split, of a task with two splits. A single file has one split only."""
    grader: GraderConfig = field(default_factory=GraderConfig)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    questions: int = 0
    """Number of questions, from the first. 0 takes all of a file, or 64 of an endless task."""
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
    """Limit of a question, in tokens. Longer questions are left out and counted."""
    max_response: int = 512
    """Limit of an answer, in tokens. A longer answer is cut and graded as it is."""
    batch: int = 16
    """Number of questions sampled at a time."""
    max_num_seqs: int | None = None
    """Number of answers decoded at a time. When one has ended, a waiting one takes its place. By
    default all of a batch."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the computation and of the weights in memory."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig.from_environment)


def main(argv: Sequence[str]) -> None:
    """Runs `pgpo eval`."""
    command = parse(EvalCommand, "pgpo eval", expanded(argv), default=EvalCommand())
    settings = EvaluationConfig(
        questions=command.questions,
        samples=command.samples,
        temperature=command.temperature,
        top_p=command.top_p,
        top_k=command.top_k,
        batch=command.batch,
    )
    rollout = RolloutConfig(
        questions=command.batch,
        samples=command.samples,
        max_prompt=command.max_prompt,
        max_response=command.max_response,
        thinking=command.thinking,
        smallest_bucket=64,
        row_buckets=1,
        max_num_seqs=command.max_num_seqs,
    )
    shards = command.mesh.row_shards
    if command.batch % shards:
        raise PGPOValueError(
            f"--batch must be divisible by mesh.data * mesh.fsdp = {shards}, got {command.batch}"
        )
    check_max_num_seqs(command.max_num_seqs, shards)
    check_seed(command.seed)
    connect(command.distributed)
    engine = make_engine(command.engine, command.max_num_seqs)
    mesh = make_mesh(command.mesh)
    task = given_task(command.task, command.columns, command.grader)
    questions = first_questions(task, command.split, command.questions)
    # A server samples on its own devices.
    if command.engine.name != "vllm":
        refuse_too_large_to_sample(command.model, command.mesh, command.dtype, rollout)
    policy, params = load_policy(
        command.model, mesh=mesh, dtype=command.dtype, param_dtype=command.dtype
    )
    result = evaluate(
        policy,
        params,
        questions,
        jax.random.key(command.seed),
        settings,
        rollout,
        grader=task,
        grader_timeout=command.grader.timeout,
        engine=engine,
    )
    if not is_first():
        return
    interval = mean_interval(list(result.scores.values()))
    print(
        f"avg@{command.samples} {result.accuracy:.4f}, standard error {result.standard_error:.4f}, "
        f"95 % interval [{interval.low:.4f}, {interval.high:.4f}]"
    )
    print(
        f"{len(result.scores)} questions of {printable_line(command.task)} "
        f"({result.dropped} longer than {command.max_prompt} tokens left out); "
        f"{result.response_length:.1f} tokens and {result.hesitation_words:.2f} hesitation words "
        "per answer"
    )
    if command.samples > 1:
        powers = [2**i for i in range(1, command.samples.bit_length())]
        told = (f"pass@{k} {result.pass_at(k):.4f}" for k in sorted({*powers, command.samples}))
        print(", ".join(told))


def check_max_num_seqs(number: int | None, shards: int) -> None:
    """Refuse a number of answers at a time that does not divide over the devices."""
    if number is not None and number % shards:
        raise PGPOValueError(
            f"--max-num-seqs must be divisible by mesh.data * mesh.fsdp = {shards}, got {number}"
        )


def check_seed(seed: int) -> None:
    """Refuse a seed that JAX would truncate to its last 32 bits."""
    if not 0 <= seed < 2**32:
        raise PGPOValueError(f"--seed must be in [0, 2**32), got {seed}")


def given_task(spec: str, columns: ColumnsConfig, grader: GraderConfig) -> Task:
    """The task of a command line."""
    own = None if grader.name == "auto" else make_grader(settings=grader)
    return load_task(spec, columns=columns, grader=own)


def first_questions(task: Task, split: str, count: int) -> list[Question]:
    """The first questions of a task; 0 means all, or 64 of an endless one.

    A task that is one file has the questions of that file for any split.

    Raises:
        ValueError: if there are fewer, or `count` is negative.
    """
    if count < 0:
        raise PGPOValueError(f"--questions must be at least 0, got {count}")
    alone = isinstance(task, FileTask) and task.eval_spec is None and is_file(task.spec)
    found = task.questions("train" if alone else split, 0)
    if len(found) == sys.maxsize:
        return [found[i] for i in range(count or _ENDLESS)]
    if not len(found):
        raise PGPOValueError(f"the task has no questions of the split '{split}'")
    if count > len(found):
        raise PGPOValueError(f"--questions must be at most {len(found)}, got {count}")
    return list(found[: count or len(found)])


def is_file(spec: str) -> bool:
    """Whether a task is one file, which has one split only."""
    return local_path(spec, "a task").is_file()
