from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgpo_jax.errors import PGPOTypeError, PGPOValueError

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn of a chat.

    Attributes:
        role: `"system"`, `"user"` or `"assistant"`.
        content: plain text. Special tokens in it are encoded as plain characters.

    Raises:
        ValueError: the role is another one.

    Added in version 0.2.0.
    """

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise PGPOValueError(f"a message's role must be one of {_ROLES}, got {self.role!r}")


@dataclass(frozen=True)
class Question:
    """One question: a chat that ends with a user message.

    Attributes:
        id: id that is unique within its source and stable across runs.
        domain: field of the question, such as `"physics"`.
        system: system message, which may be empty.
        prompt: last user message, options included.
        answer: the right answer for the grader: an option letter, a number or any string.
        history: turns between the system message and `prompt`, the oldest first.
        kind: subdivision of `domain` for reports, which may be empty.
        solution: a worked solution from the data, for objectives that show one to the teacher.
        demonstration: an example response from the data, for the same use.
        feedback: text about the question from the data, for the same use.
        columns: all other columns of the row, for graders. An example are the tests of a code
            question.

    >>> question = Question("q1", "arithmetic", "", "1 + 1?", "2")
    >>> [(m.role, m.content) for m in question.messages]
    [('user', '1 + 1?')]
    """

    id: str
    domain: str
    system: str
    prompt: str
    answer: str
    history: tuple[Message, ...] = ()
    kind: str = ""
    solution: str | None = None
    demonstration: str | None = None
    feedback: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("id", "domain", "system", "prompt", "answer", "kind"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise PGPOTypeError(f"Question.{name} must be a string, got {value!r}")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole chat, the oldest turn first."""
        return self.messages_with(self.prompt)

    def messages_with(self, prompt: str) -> tuple[Message, ...]:
        """The chat with another last user message, as a teacher's prompt."""
        system = (Message("system", self.system),) if self.system else ()
        return (*system, *self.history, Message("user", prompt))

    @classmethod
    def from_messages(
        cls, id: str, messages: Sequence[Message], answer: str, *, domain: str = "", **fields: Any
    ) -> "Question":
        """A question from a whole chat.

        Args:
            id: id of the question.
            messages: turns of the chat. A system message may come first, and the last message must
                be the user's.
            answer: the right answer for the grader.
            domain: field of the question.
            fields: further fields: `kind`, `solution`, `demonstration`, `feedback` or `columns`.

        Raises:
            ValueError: the chat is empty, does not end with a user message, or has a system message
                after the first turn.

        >>> chat = [Message("system", "Be brief."), Message("user", "1 + 1?")]
        >>> Question.from_messages("q1", chat, "2").system
        'Be brief.'
        """
        turns = list(messages)
        if not turns or turns[-1].role != "user":
            last = turns[-1].role if turns else "nothing"
            raise PGPOValueError(f"a chat must end with a user message, got {last!r}")
        system = turns.pop(0).content if turns[0].role == "system" else ""
        late = [number for number, turn in enumerate(turns) if turn.role == "system"]
        if late:
            raise PGPOValueError(
                f"a system message must be the first of a chat, got one as turn {late[0] + 1}"
            )
        return cls(
            id, domain, system, turns[-1].content, answer, history=tuple(turns[:-1]), **fields
        )
