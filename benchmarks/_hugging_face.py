"""The other side of `benchmarks.sampler`: transformers' `generate`, in an interpreter with torch.

Run by that benchmark as `PYTHON _hugging_face.py FOLDER DTYPE DEVICE`; reads one JSON request a
line (tokens, new, temperature, top_p) and answers with the seconds of one call. It imports nothing
of this project, so that interpreter needs torch and transformers only.
"""

import json
import sys
import time


def main() -> None:
    try:
        import torch  # pyright: ignore[reportMissingImports]  # only in that interpreter
        import transformers
    except ImportError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    folder, dtype, device = sys.argv[1:]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model = model.eval().to(device)
    # Without an end every call makes the same number of tokens.
    model.generation_config.eos_token_id = None
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(versions | {"threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        ids = torch.tensor(request["tokens"], device=device)
        start = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request["new"],
                do_sample=True,
                temperature=request["temperature"],
                top_p=request["top_p"],
                top_k=0,
                pad_token_id=0,
            )
            shape = list(out.cpu().shape)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "shape": shape}), flush=True)


if __name__ == "__main__":
    main()
