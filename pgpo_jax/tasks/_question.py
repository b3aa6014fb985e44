from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question as the student sees it.

    Attributes:
        id: unique within its source, stable across runs.
        domain: the field of science it belongs to, e.g. `"physics"`.
        system: the system message; may be empty.
        prompt: the user message, options included.
        answer: what `grade` compares with: an option letter, or a short string (open answers).
    """

    id: str
    domain: str
    system: str
    prompt: str
    answer: str
