"""The tiny model's tokenizer: whole words and numbers of the synthetic tasks, bytes for the rest.

It is byte-level BPE without training. Text is cut into words, numbers and a few fixed phrases. A
piece in the vocabulary is one token (`ignore_merges`). Any other piece is encoded in bytes and a
few frequent English pairs. So every text can be encoded and decoded without change.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from pgpo_jax.tasks import Question, teacher_prompt
from pgpo_jax.tasks.synthetic import CLOSING, GIVEN, KINDS, MAX_VALUE, NAMES, OPENERS, SYSTEM

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_PAIRS = (
    "t h;h e;i n;e r;a n;r e;o n;a t;e n;n d;t i;e s;o r;t e;o f;e d;i s;i t;a l;a r;s t;n t;"
    "n g;s e;h a;a s;o u;i o;l e;v e;c o;m e;d e;r o;i c;e a;r a;c e;l i;c h;l l;m a;u r;e c;"
    "Ġ t;Ġ a;Ġ o;Ġ c;Ġ s;Ġ m;Ġ p;Ġ f;Ġ w;Ġ b;Ġ d;Ġ =;Ġ i;Ġ \\;th e;Ġ the;Ġ of;in g;io n;ti on;"
    "an d;Ġ and;Ġ is;Ġ in;t o;Ġ to;en t;er e;Ġ\\ f;0 0;. 0;\\ t"
)
# Qwen's layout for system, user and assistant turns. `enable_thinking` is accepted and changes
# nothing: the model has no thinking mode whose empty block would have to be written.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def _teacher_phrases() -> list[str]:
    """The fixed parts of a teacher prompt, taken from the function that writes it."""
    before, after = teacher_prompt(Question("", "", "", "", ""), solution="\0").split("\0")
    return [before, after]


def phrases() -> list[str]:
    """Texts that always stand as a whole and are one token each."""
    return [
        *SYSTEM.values(),
        GIVEN,
        CLOSING,
        *_teacher_phrases(),
        *(f"{role}\n" for role in ("system", "user", "assistant")),
        ".</reasoning>\n<answer>",
        "<reasoning>",
        "</reasoning>",
        "<answer>",
        "</answer>",
        *(f"\n{letter}:" for letter in "ABCD"),
        *(f"{letter}:" for letter in "ABCD"),
        *(f" [{letter}]" for letter in "ABCD"),
        "\n\n",
    ]


def _pattern() -> str:
    fixed = "|".join(re.escape(phrase) for phrase in sorted(phrases(), key=len, reverse=True))
    # Roles are phrases only after <|im_start|>, which has been cut off: at the start of a text.
    return rf"{fixed}| ?\p{{L}}+[0-9]*| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s"


def build_tokenizer() -> Tokenizer:
    """The tokenizer, the same at every call."""
    split = pre_tokenizers.Split(Regex(_pattern()), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def spelled(text: str) -> str:
        return "".join(piece for piece, _ in to_bytes.pre_tokenize_str(text))

    merges = [tuple(pair.split(" ")) for pair in _PAIRS.split(";")]
    merges = [pair for pair in merges if len(pair) == 2]
    words: list[str] = []
    texts = [kind.text for kinds in KINDS.values() for kind in kinds]
    responses = [f"{opener} {' '.join(NAMES.values())} ." for opener in OPENERS]
    for text in [*texts, *responses]:
        filled = re.sub(r" \{[abc]\}", " ", text)
        words += [piece for piece, _ in split.pre_tokenize_str(filled)]
    numbers = [f" {value}" for value in range(MAX_VALUE + 1)]
    vocabulary: dict[str, int] = {}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [*phrases(), *numbers, *dict.fromkeys(words)]
    for token in [*alphabet, *("".join(pair) for pair in merges), *map(spelled, known)]:
        vocabulary.setdefault(token, len(vocabulary))
    # A round number of rows shards evenly; the filling is more numbers.
    specials = 3
    value = MAX_VALUE + 1
    while (len(vocabulary) + specials) % 64:
        vocabulary.setdefault(spelled(f" {value}"), len(vocabulary))
        value += 1
    model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (PAD, START, END)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json.

    Args:
        tokenizer: from `build_tokenizer`.
        folder: where; must exist.
    """
    folder = Path(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "bos_token": None,
        "unk_token": None,
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
