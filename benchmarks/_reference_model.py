"""The other side of `benchmarks.real_model`: a model and its tokenizer in transformers.

Run by that benchmark as `PYTHON _reference_model.py FOLDER [GGUF]`; with a GGUF file transformers
dequantises it by itself and makes the tokenizer of it, too. Reads one JSON request a line and
answers with one. It imports nothing of this project, so that interpreter needs torch, transformers
and, for a GGUF file, gguf and accelerate.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    try:
        import numpy as np
        import torch  # pyright: ignore[reportMissingImports]  # only in that interpreter
        import transformers
    except ImportError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    transformers.utils.logging.disable_progress_bar()
    folder, *gguf = sys.argv[1:]
    where, how = folder, {}
    if gguf:
        where, how = str(Path(gguf[0]).parent), {"gguf_file": Path(gguf[0]).name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(where, **how)
    model = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **how)
    model = model.eval()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        ids = tokenizer.apply_chat_template(
            request["messages"], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        given = torch.tensor([request["ids"]])
        with torch.inference_mode():
            logits = model(given).logits[0].numpy()
            # With the ends of its own generation config.
            out = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=request["new"],
                do_sample=False,
            )
        np.save(request["file"], logits)
        answer = {"ids": ids, "greedy": out[0, given.shape[1] :].tolist()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
