from dataclasses import dataclass

from pgpo_jax.training.config._rules import (
    finite,
    positive,
    require,
)


@dataclass(frozen=True)
class RolloutConfig:
    """Settings of the student's responses (lengths in tokens)."""

    questions: int = 32
    """Number of questions per step."""
    samples: int = 8
    """Number of responses per question."""
    temperature: float = 1.0
    """Sampling temperature. The losses also divide logits by it."""
    top_p: float = 1.0
    """Probability mass of the nucleus to sample from."""
    top_k: int | None = None
    """Number of most likely tokens to sample from; `None` means all."""
    thinking: bool = False
    """Let the student think before it answers, if the chat template has this option."""
    max_prompt: int = 2048
    """Longest question. Longer ones are dropped and counted, never cut."""
    max_response: int = 8192
    """Longest response. A response without an end by then is graded as it is."""
    smallest_bucket: int = 256
    """Smallest padded length. Lengths are padded to this times a power of two, so that few programs
    are compiled."""
    row_buckets: int = 4
    """Number of possible batch sizes. Sequences without a teacher signal are dropped. The others
    are padded to a multiple of `questions * samples / row_buckets` rows."""
    micro_batch: int | None = None
    """Number of questions answered at a time, which bounds the key-value cache. `None` means all at
    once. The random numbers are the same."""
    max_num_seqs: int | None = None
    """Number of responses that the sampler decodes at a time, in training and evaluation (the name
    is vLLM's). When one has ended, a waiting one takes its place (continuous batching). So a few
    long responses do not block the others. `None` means all at once. The random numbers are the
    same."""
    share_prompts: bool = False
    """Read a prompt once for all responses to it, and a teacher prompt once for all responses that
    are shown the same solution. This saves time unless prompts are much shorter than responses. It
    needs one device and no micro-batches."""

    def __post_init__(self) -> None:
        positive(self, "questions", "samples", "temperature", "max_prompt", "max_response")
        positive(self, "smallest_bucket", "row_buckets")
        finite(self, "temperature")
        if self.micro_batch is not None:
            positive(self, "micro_batch")
            require(
                self.questions % self.micro_batch == 0,
                f"RolloutConfig.micro_batch must divide questions = {self.questions}",
                self.micro_batch,
            )
        if self.max_num_seqs is not None:
            positive(self, "max_num_seqs")
        require(0 < self.top_p <= 1, "RolloutConfig.top_p must be in (0, 1]", self.top_p)
        if self.top_k is not None:
            positive(self, "top_k")
        require(
            self.rows % self.row_buckets == 0,
            f"RolloutConfig.row_buckets must divide questions * samples = {self.questions} * "
            f"{self.samples} (--rollout.row-buckets 1 always does)",
            self.row_buckets,
        )

    @property
    def rows(self) -> int:
        """Sequences per step."""
        return self.questions * self.samples


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of the evaluation: avg@n on held-out questions."""

    every: int = 5
    """Number of steps between evaluations. The initial and the final model are always evaluated."""
    questions: int = 0
    """Number of held-out questions. 0 takes all of a file; a synthetic source needs a number."""
    samples: int = 16
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int | None = None
    batch: int = 32
    """Number of questions sampled at a time."""

    def __post_init__(self) -> None:
        positive(self, "every", "samples", "batch")
        require(
            self.questions >= 0, "EvaluationConfig.questions must be at least 0", self.questions
        )
        require(
            self.temperature >= 0,
            "EvaluationConfig.temperature must be at least 0",
            self.temperature,
        )
        finite(self, "temperature")
        require(0 < self.top_p <= 1, "EvaluationConfig.top_p must be in (0, 1]", self.top_p)
        if self.top_k is not None:
            positive(self, "top_k")


@dataclass(frozen=True)
class MeshConfig:
    """Number of devices along each axis of the mesh. All 1 means one device and no mesh."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        positive(self, "data", "fsdp", "tensor")

    @property
    def size(self) -> int:
        """Total number of devices."""
        return self.row_shards * self.tensor

    @property
    def row_shards(self) -> int:
        """Number of parts into which questions and sequences are spread."""
        return self.data * self.fsdp
