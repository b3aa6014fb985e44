"""Checks that another model as the teacher has the tokens of the student."""

import json
from collections.abc import Sequence
from typing import Any

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import DecoderConfig, load_tokenizer
from pgpo_jax.models._load import find_folder
from pgpo_jax.training.rollout._policy import Policy, model_folder

# The parts of a fast tokenizer that determine the tokens of a text.
_CUTTING = ("normalizer", "pre_tokenizer", "model")


def check_teacher_folder(model: str, teacher: str) -> None:
    """Refuse another model whose tokens are not the student's, before weights are read.

    Args:
        model: the student's folder, Hub id, or `tiny`.
        teacher: the other model's.

    Raises:
        FileNotFoundError: no such folder, or a file that is missing.
        ValueError: another tokenizer or vocabulary, or a file that cannot be read.
    """
    folders = [find_folder(model_folder(name)) for name in (model, teacher)]
    sizes = [DecoderConfig.from_folder(folder).vocab_size for folder in folders]
    _check(teacher, [load_tokenizer(folder) for folder in folders], sizes)


def check_teacher_policy(policy: Policy, teacher: Policy) -> None:
    """Refuse a loaded model whose tokens or mesh are not those of the student.

    Args:
        policy: the student's.
        teacher: the other model's.

    Raises:
        ValueError: another tokenizer, vocabulary or mesh.
    """
    _check(
        teacher.name, [policy.tokenizer, teacher.tokenizer], [policy.vocabulary, teacher.vocabulary]
    )
    if teacher.mesh != policy.mesh:
        raise PGPOValueError(
            f"the teacher {teacher.name!r} must lie on the student's mesh {policy.mesh}, got "
            f"{teacher.mesh}"
        )


def _check(teacher: str, tokenizers: Sequence[Any], sizes: Sequence[int | None]) -> None:
    """The first of each pair is the student's."""
    own, others = (tokenizer.get_vocab() for tokenizer in tokenizers)
    if own != others:
        place = min(id for _, id in own.items() ^ others.items())
        ours, theirs = (
            [word for word, id in vocabulary.items() if id == place] for vocabulary in (own, others)
        )
        told = " and ".join(
            f"{words[0]!r} of the {whose}" if words else f"none of the {whose}"
            for words, whose in ((ours, "student"), (theirs, "teacher"))
        )
        raise PGPOValueError(
            f"teacher.model {teacher!r} must have the student's tokenizer, but id {place} is {told}"
        )
    rules = [json.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in tokenizers]
    for part in _CUTTING:
        if rules[0][part] != rules[1][part]:
            raise PGPOValueError(
                f"teacher.model {teacher!r} must have the student's tokenizer, but its {part} is "
                "another one, which cuts a text into other tokens"
            )
    if sizes[0] != sizes[1]:
        raise PGPOValueError(
            f"teacher.model {teacher!r} must have the student's vocabulary of {sizes[0]} "
            f"(vocab_size in config.json), got {sizes[1]}"
        )
