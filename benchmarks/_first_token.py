"""One side of `benchmarks.peers`: a process of transformers that samples one token and ends.

Run by that benchmark as `PYTHON _first_token.py FOLDER PROMPT`, in an interpreter with torch and
transformers. It imports nothing of this project.
"""

import sys


def main() -> None:
    import torch  # pyright: ignore[reportMissingImports]  # only in that interpreter
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, prompt = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=1, do_sample=True, top_k=0)
    print(tokenizer.decode(out[0, ids["input_ids"].shape[1] :]))


if __name__ == "__main__":
    main()
