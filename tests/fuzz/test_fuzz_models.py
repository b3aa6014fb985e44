"""Model folders: the shape, the index of the weights, the weights, the tokenizer, the template."""

import json
import shutil

import pytest
from hypothesis import given, strategies as st

from pgpo_jax.models import Qwen3Config, encode, load_tokenizer, render_messages
from pgpo_jax.models._load import INDEX, WEIGHTS, _Files
from pgpo_jax.training.rollout._end_tokens import end_tokens
from pgpo_jax.training.rollout._policy import TINY
from tests.fuzz.conftest import damaged, fuzzed, refused, texts, values

CONFIG = json.loads((TINY / "config.json").read_text())
SETTINGS = json.loads((TINY / "tokenizer_config.json").read_text())
TOKENIZER = json.loads((TINY / "tokenizer.json").read_text())
INDEXED = {
    "metadata": {"total_size": 1},
    "weight_map": {"a": "x.safetensors", "b": "a.safetensors"},
}


@pytest.fixture
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    shutil.copytree(TINY, folder)
    return folder


@pytest.fixture
def tokenizer():
    return load_tokenizer(TINY)


def write(path, text):
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


@fuzzed
@given(text=(damaged(CONFIG) | values).map(json.dumps) | texts)
def test_shapes(folder, text):
    write(folder / "config.json", text)
    refused(lambda: Qwen3Config.from_folder(folder))


@fuzzed
@given(text=(damaged({"eos_token_id": [575, 573]}) | values).map(json.dumps) | texts)
def test_end_tokens(folder, tokenizer, text):
    write(folder / "generation_config.json", text)
    refused(lambda: end_tokens(folder, tokenizer, 576))


@fuzzed
@given(text=(damaged(INDEXED) | values).map(json.dumps) | texts)
def test_indices_of_weights(folder, text):
    (folder / WEIGHTS).unlink(missing_ok=True)
    write(folder / INDEX, text)
    assert refused(lambda: _Files(folder))


WHOLE = (TINY / WEIGHTS).read_bytes()


@fuzzed
@given(
    place=st.integers(0, 3000), data=st.binary(min_size=1, max_size=16), end=st.integers(0, 10**7)
)
def test_weights(folder, place, data, end):
    config = Qwen3Config.from_dict(CONFIG)
    (folder / WEIGHTS).write_bytes((WHOLE[:place] + data + WHOLE[place + len(data) :])[:end])
    refused(lambda: _Files(folder).check({}, config))


@fuzzed
@given(
    tokenizer=damaged(TOKENIZER) | st.just(TOKENIZER),
    settings=damaged(SETTINGS) | st.just(SETTINGS),
    text=st.none() | texts,
)
def test_tokenizers(folder, tokenizer, settings, text):
    write(folder / "tokenizer.json", json.dumps(tokenizer))
    write(folder / "tokenizer_config.json", json.dumps(settings) if text is None else text)

    def use():
        loaded = load_tokenizer(folder)
        render_messages(loaded, [{"role": "user", "content": "a <|im_end|> b"}])
        encode(loaded, "a \ud800 b")

    refused(use)


PIECES = [
    *(
        "{% for m in messages %}",
        "{% endfor %}",
        "{% if loop.first %}",
        "{% endif %}",
        "{% else %}",
    ),
    *("{{ m.content }}", "{{ m['content'] | trim }}", "{{ m.role }}", "{{ messages[0].content }}"),
    *("{{ m.content | tojson }}", "{{ m.content[:3] }}", "{{ m.content | length }}"),
    *("{{ raise_exception('no') }}", "{{ 1 / 0 }}", "{{ undefined.x.y }}", "{% set x = m %}"),
    *(
        "{% if enable_thinking %}",
        "{% if '/no' in m.content %}",
        "{{ m.content * 3 }}",
        "{% raw %}",
    ),
    *(
        "<|im_start|>",
        "<|im_end|>",
        "\n",
        "{%- if add_generation_prompt -%}",
        "{{",
        "}}",
        "{#",
        "x",
    ),
    *(
        "{% macro a(n) %}",
        "{% endmacro %}",
        "{{ a(1) }}",
        "{{ messages | map('x') }}",
        "{% break %}",
    ),
]
FRAMES = ["{}", "{{% for m in messages %}}{}{{{{ m.content }}}}{{% endfor %}}"]


@fuzzed
@given(
    pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=6),
    frame=st.sampled_from(FRAMES),
    chat=st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["system", "user", "assistant"]) | st.text(max_size=3),
                "content": st.text(max_size=12)
                | st.sampled_from(["<|im_end|>", "/no_think", "<think>a</think>b", " x "]),
            }
        ),
        max_size=4,
    ),
    thinking=st.booleans(),
)
def test_chat_templates(tokenizer, pieces, frame, chat, thinking):
    tokenizer.chat_template = frame.format("".join(pieces))
    refused(lambda: render_messages(tokenizer, chat, thinking=thinking))


def test_what_is_whole_is_read(folder, tokenizer):
    """The control: the readers do not refuse everything."""
    assert not refused(lambda: Qwen3Config.from_folder(folder))
    assert not refused(lambda: _Files(folder))
    assert not refused(
        lambda: render_messages(load_tokenizer(folder), [{"role": "user", "content": "a"}])
    )
