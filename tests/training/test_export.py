"""What an exported folder holds beside the weights: the source's own files, byte for byte."""

import copy
import dataclasses
import json
import shutil

import pytest

from pgpo_jax.training import load_policy
from pgpo_jax.training.rollout._policy import TINY
from pgpo_jax.training.run._export import export_model

ENDINGS = {"eos_token_id": [575, 573], "pad_token_id": 573, "temperature": 0.6}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The shipped model with every further file that a folder may have."""
    folder = tmp_path_factory.mktemp("source") / "model"
    shutil.copytree(TINY, folder)
    (folder / "generation_config.json").write_text(json.dumps(ENDINGS))
    # In the style of transformers 4, with blanks that no library writes.
    (folder / "special_tokens_map.json").write_text('{ "eos_token":   "<|im_end|>" }')
    (folder / "added_tokens.json").write_text('{"<|im_end|>":575 }')
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    (folder / "training_args.bin").write_bytes(b"not of the tokenizer")
    return folder


@pytest.fixture(scope="module")
def loaded(source):
    return load_policy(str(source))


COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "additional_chat_templates/tool_use.jinja",
    "generation_config.json",
)


def test_the_tokenizer_files_are_copied_byte_for_byte(source, loaded, tmp_path):
    # In use its backend changes: how it cuts and pads.
    loaded.policy.tokenizer(["a", "a b"], padding=True, truncation=True, max_length=4)
    export_model(*loaded, tmp_path / "out")
    for name in COPIED:
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes(), name
    assert not (tmp_path / "out" / "training_args.bin").exists()
    # The control: written anew, transformers 4 could not read them.
    loaded.policy.tokenizer.save_pretrained(tmp_path / "anew")
    settings = (tmp_path / "anew" / "tokenizer_config.json").read_text()
    assert settings != (source / "tokenizer_config.json").read_text()
    assert json.loads(settings)["tokenizer_class"] == "TokenizersBackend"


def test_a_tokenizer_that_was_changed_is_written_as_it_is_now(source, loaded, tmp_path):
    policy, params = loaded
    changed = copy.deepcopy(policy.tokenizer)
    changed.chat_template = "{{ messages[0].content }}"
    export_model(dataclasses.replace(policy, tokenizer=changed), params, tmp_path / "out")
    again = load_policy(str(tmp_path / "out")).policy
    assert again.tokenizer.chat_template == changed.chat_template
    assert again.eos_ids == policy.eos_ids == (575, 573)


def test_a_tokenizer_whose_folder_is_gone_is_written(loaded, tmp_path):
    policy, params = loaded
    gone = dataclasses.replace(policy, folder=str(tmp_path / "gone"))
    export_model(gone, params, tmp_path / "out")
    assert load_policy(str(tmp_path / "out")).policy.eos_ids == (575,)
