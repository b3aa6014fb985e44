from collections import Counter
from dataclasses import dataclass, fields

from pgpo_jax.errors import PGPOValueError


@dataclass(frozen=True)
class ColumnsConfig:
    """The roles of the columns of a file or data set; all other columns go to the grader.

    A field that is left out is found by the usual names. The empty string means that there is no
    such column, even if the usual name exists. Give either `question` or `messages`.

    >>> ColumnsConfig(question="text", answer="gold").question
    'text'

    Added in version 0.2.0.
    """

    question: str | None = None
    """The question as text, or as a list of messages with `role` and `content`. By default
    `question`, `prompt`, `problem`, `instruction` or `query`."""
    answer: str | None = None
    """The right answer: a string, or a number, which becomes its JSON text (3 and 3.0 are "3").
    By default `answer`, `final_answer`, `ground_truth`, `target`, `reference_answer` or
    `expected_answer`."""
    messages: str | None = None
    """A chat that ends with the user's message. By default `messages` or `conversations`."""
    id: str | None = None
    """The id of the row. By default `id` or `idx`; without one, rows are numbered."""
    system: str | None = None
    """The system message. By default `system` or `system_prompt`."""
    domain: str | None = None
    """The field that the question belongs to. By default `domain`. Without one it is the name of
    the file, or of its folder if the file is named after a split, such as `train.jsonl`."""
    kind: str | None = None
    """A subdivision of the domain, for reports. By default `kind`."""
    solution: str | None = None
    """A worked solution. By default `solution`."""
    demonstration: str | None = None
    """An example response. By default `demonstration`."""
    feedback: str | None = None
    """Text about the question. By default `feedback`."""
    system_prompt: str | None = None
    """A system message for every row, instead of its own. The empty string leaves it out."""

    def __post_init__(self) -> None:
        chosen = self.chosen()
        for role, name in chosen.items():
            if not isinstance(name, str):
                raise PGPOValueError(f"columns.{role} must be a column's name, got {name!r}")
        if chosen.get("question") and chosen.get("messages"):
            raise PGPOValueError(
                "columns.question and columns.messages must not both be given, got "
                f"{self.question!r} and {self.messages!r}"
            )
        twice = [
            name for name, times in Counter(filter(None, chosen.values())).items() if times > 1
        ]
        if twice:
            roles = [role for role, name in chosen.items() if name == twice[0]]
            raise PGPOValueError(
                f"columns.{' and columns.'.join(roles)} must differ, got {twice[0]!r} for both"
            )

    def chosen(self) -> dict[str, str]:
        """The columns that were named, by role."""
        names = {field.name: getattr(self, field.name) for field in fields(self)}
        del names["system_prompt"]
        return {role: name for role, name in names.items() if name is not None}
