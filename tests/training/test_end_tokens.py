"""Which tokens end a response, and which a prompt may hold, by the files of a model folder."""

import json
import shutil

import pytest

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.models import load_tokenizer
from pgpo_jax.tasks import Message
from pgpo_jax.training import load_policy
from pgpo_jax.training.rollout._end_tokens import end_tokens
from pgpo_jax.training.rollout._policy import TINY

END, PAD, START, VOCABULARY = 575, 573, 574, 576


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY)


@pytest.fixture(scope="module")
def endless():
    """The tokenizer without an end of its own."""
    tokenizer = load_tokenizer(TINY)
    tokenizer.eos_token = None
    return tokenizer


@pytest.fixture
def ends(tmp_path):
    """The end tokens by the two files; None leaves a file out."""

    def ends(tokenizer, generation, config):
        for name, values in (("generation_config.json", generation), ("config.json", config)):
            if values is not None:
                text = values if isinstance(values, str) else json.dumps(values)
                (tmp_path / name).write_text(text)
        return end_tokens(tmp_path, tokenizer, VOCABULARY)

    return ends


@pytest.mark.parametrize(
    ("generation", "config", "found"),
    [
        ({"eos_token_id": [END, PAD]}, {"eos_token_id": START}, (END, PAD)),
        ({"eos_token_id": START}, None, (END, START)),
        (None, {"eos_token_id": START}, (END, START)),
        (None, {"eos_token_id": [START, PAD]}, (END, START, PAD)),
        # A null names none, and so does a file without the field.
        ({"eos_token_id": None}, {"eos_token_id": START}, (END, START)),
        ({"temperature": 1}, {"eos_token_id": None}, (END,)),
        ("\ufeff{}", {}, (END,)),
    ],
)
def test_the_files_name_further_ends(ends, tokenizer, generation, config, found):
    assert ends(tokenizer, generation, config) == found


def test_what_only_config_says_is_enough(ends, endless):
    assert ends(endless, None, {"eos_token_id": START}) == (START,)


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"eos_token_id": None}, "names an end token"),
        ({"eos_token_id": 576}, r"id in \[0, 576\).*generation_config.json.* names 576"),
        ({"eos_token_id": [START, "</s>"]}, "names '</s>'"),
        ({"eos_token_id": [START, None]}, "names 'None'"),
        ({"eos_token_id": {"id": 3}}, "names"),
        ({"eos_token_id": True}, "names True"),
        ("[1]", "must hold a JSON object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_ends_that_are_no_ids_are_refused(ends, endless, generation, message):
    with pytest.raises(PGPOValueError, match=message):
        ends(endless, generation, None)


def with_token(folder, content, special):
    """A copy of the shipped model with one more token in its tokenizer, but not in its model."""
    shutil.copytree(TINY, folder)
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["added_tokens"].append(
        values["added_tokens"][0] | {"id": 576, "content": content, "special": special}
    )
    path.write_text(json.dumps(values))
    return folder


def test_a_tokenizer_beyond_the_model_is_refused_at_loading(tmp_path):
    folder = with_token(tmp_path / "model", "<tool>", special=False)
    with pytest.raises(
        PGPOValueError, match=r"below 576.*'<tool>' has the id 576.*Resize the embedding"
    ):
        load_policy(str(folder))


def test_a_special_token_beyond_the_model_is_refused_where_it_is_used(tmp_path):
    folder = with_token(tmp_path / "model", "<|tool|>", special=True)
    policy, _ = load_policy(str(folder))
    chat = [Message("user", "<|tool|> is text")]
    assert max(policy.encode(chat)) < VOCABULARY
    policy.tokenizer.chat_template = "<|tool|>" + policy.tokenizer.chat_template
    with pytest.raises(PGPOValueError, match=r"below 576.*makes 576 \('<\|tool\|>'\)"):
        policy.encode(chat)


def test_padding_beyond_the_model_is_no_fault(tmp_path):
    folder = with_token(tmp_path / "model", "<|more|>", special=True)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "<|more|>"}))
    policy, _ = load_policy(str(folder))
    assert policy.tokenizer.pad_token_id == 576
    # Any token does, for masks tell what counts.
    assert policy.pad_id == END
