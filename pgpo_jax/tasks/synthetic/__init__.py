"""Procedural multiple-choice science questions: an endless source for demos and tests.

Every kind of question has one right method and two misconceptions, such as a sum instead of a
product. The values of all three are among the options, so that skill and headroom are known. A
question contains every constant that it needs. It also contains the results of all three methods
("Given: product 42, sum 13, ..."). So the model chooses the formula and looks up its value. Every
value is one token of the shipped tokenizer. (seed, index) determines everything.

The splits share neither questions nor operands nor arithmetic facts: see `held_out`.

**To add a kind**, append one `Kind(...)` to the file of its domain (`_physics.py`, ...); No other
file names it. Words outside the shipped tokenizer's vocabulary are encoded in bytes, which is
correct but long: `experiments/pretrain_tiny.py` builds tokenizer and model again. A new domain is a
new file, listed in `_questions.py`.
"""

from pgpo_jax.tasks.synthetic._arithmetic import (
    MAX_VALUE as MAX_VALUE,
    NAMES as NAMES,
    Calculation as Calculation,
    held_out as held_out,
    operand_split as operand_split,
)
from pgpo_jax.tasks.synthetic._kind import Kind as Kind, Problem as Problem
from pgpo_jax.tasks.synthetic._questions import (
    DOMAINS as DOMAINS,
    KINDS as KINDS,
    SyntheticQuestions as SyntheticQuestions,
)
from pgpo_jax.tasks.synthetic._text import (
    CLOSING as CLOSING,
    FORMS as FORMS,
    GIVEN as GIVEN,
    OPENERS as OPENERS,
    SYSTEM as SYSTEM,
    prompt_text as prompt_text,
    solution_text as solution_text,
    table_text as table_text,
)
