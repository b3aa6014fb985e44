"""The other side of `benchmarks.real_model`: llama.cpp on a GGUF file, through llama-cpp-python.

That benchmark runs it as `PYTHON _llama_cpp.py GGUF`. It reads one JSON request a line: a `text` to
tokenise, or `tokens` and `new`. It answers with the tokens, or with the seconds of sampling `new`
more tokens. It imports nothing of this project.
"""

import json
import os
import sys
import time


def main() -> None:
    try:
        import llama_cpp  # pyright: ignore[reportMissingImports]  # only in that interpreter
    except ImportError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    threads = len(os.sched_getaffinity(0))
    model = llama_cpp.Llama(sys.argv[1], n_ctx=2048, n_threads=threads, verbose=False)
    print(json.dumps({"llama_cpp": llama_cpp.__version__, "threads": threads}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "text" in request:
            ids = model.tokenize(request["text"].encode(), add_bos=False, special=True)
            print(json.dumps({"ids": ids}), flush=True)
            continue
        model.reset()
        start = time.perf_counter()
        made = model.generate(request["tokens"], temp=1.0, top_k=0, top_p=1.0, min_p=0.0)
        for _ in range(request["new"]):
            next(made)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
