"""Makes the golden checkpoints with Hugging Face's own models; run where torch is installed.

python tests/models/make_golden.py [CASE ...]

Each folder of tests/models/golden holds a random checkpoint as transformers writes it and
golden.npz: tokens, mask (padded on the left), logits of the real positions and the greedy
continuation. Nothing of pgpo_jax is used.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

GOLDEN = Path(__file__).parent / "golden"
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 96}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # So short that the scaling changes the angles of these short prompts.
    "original_max_position_embeddings": 16,
}
CASES = {
    # name: (family, rope_theta, tied, heads, kv heads, head_dim, style of config.json, shard size)
    "theta1e4_tied": ("Qwen3", 1e4, True, 4, 2, 8, 5, None),
    "theta1e6_untied": ("Qwen3", 1e6, False, 4, 1, 16, 5, "16KB"),
    "theta1e6_tied_mha": ("Qwen3", 1e6, True, 4, 4, 8, 4, None),
    "theta1e4_untied_wide_heads": ("Qwen3", 1e4, False, 2, 2, 32, 4, None),
    "llama_tied": ("Llama", 1e5, True, 4, 2, 8, 4, None),
    "llama3_rope_untied": ("Llama", 5e5, False, 4, 2, 8, 5, None),
    "qwen2_biases": ("Qwen2", 1e6, True, 4, 2, 8, 5, None),
    "mistral_wide_heads": ("Mistral", 1e4, False, 2, 1, 32, 5, None),
}
PROMPT, NEW, LENGTHS = 12, 12, (12, 7, 3, 1)


def make(name, family, theta, tied, heads, kv_heads, head_dim, style, shard):
    torch.manual_seed(len(name))
    rope = LLAMA3 if name.startswith("llama3") else {"rope_type": "default"}
    # Qwen2 has no head_dim of its own, and Mistral a sliding window unless told otherwise.
    own = {"Qwen2": {}, "Mistral": {"head_dim": head_dim, "sliding_window": None}}
    config = getattr(transformers, f"{family}Config")(
        **SHAPE,
        **own.get(family, {"head_dim": head_dim}),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
        rope_parameters={**rope, "rope_theta": theta},
        # Large weights: with the usual 0.02 all logits are alike and errors would not show.
        initializer_range=0.3,
        max_position_embeddings=128,
        dtype="float32",
        attn_implementation="eager",
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name:
            parameter.data.uniform_(0.5, 1.5)
        if "bias" in parameter_name:
            parameter.data.uniform_(-1.0, 1.0)
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **({} if shard is None else {"max_shard_size": shard}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if style == 4:
        path = folder / "config.json"
        values = json.loads(path.read_text())
        values["rope_theta"] = values.pop("rope_parameters")["rope_theta"]
        values["rope_scaling"] = None
        values["torch_dtype"] = values.pop("dtype")
        values.pop("layer_types", None)
        values["transformers_version"] = "4.51.0"
        path.write_text(json.dumps(values, indent=2) + "\n")

    tokens = torch.randint(0, SHAPE["vocab_size"], (len(LENGTHS), PROMPT))
    mask = torch.arange(PROMPT)[None] >= PROMPT - torch.tensor(LENGTHS)[:, None]
    tokens = tokens * mask
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask.long(), position_ids=positions).logits
        greedy = model.generate(
            tokens,
            attention_mask=mask.long(),
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )[:, PROMPT:]
    np.savez_compressed(
        folder / "golden.npz",
        tokens=tokens.numpy().astype(np.int32),
        mask=mask.numpy(),
        # At padding the two implementations may differ: nothing is promised there.
        logits=np.where(mask.numpy()[..., None], logits.numpy(), 0).astype(np.float32),
        greedy=greedy.numpy().astype(np.int32),
    )


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        make(case, *CASES[case])
