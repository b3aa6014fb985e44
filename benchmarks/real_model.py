"""A pretrained model here and elsewhere: the same logits, tokens and ends? And how fast?

    python -m benchmarks.real_model --questions FILE --hugging-face PYTHON [--gguf FILE]

The model is the folder that `make smollm2` makes. The interpreter needs torch and transformers;
for `--gguf` gguf and accelerate, and llama-cpp-python for the last comparison. With `--gguf` the
reference is transformers' own reader of the GGUF file. So our dequantised weights, the order of
their rows and the tokenizer are compared, too. The questions are not written to any file.

For each prompt it reports whether the chat template gives the same ids. It reports the largest
difference of logits over all positions, with the largest logit, and whether the greedy continuation
is the same, its end included. If it is not, the gap is the reference's difference of logits between
the two tokens at the first difference. A gap near 0 is a tie.

Then it measures tokens per second, in turns: `sample` against `generate`, and with one row against
llama.cpp on the 4-bit weights. There the advantage of llama.cpp is that it reads a sixth of the
bytes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks._child import Child
from benchmarks._record import add_json_flag, in_turns, ratio, report, table
from benchmarks.sampler import HuggingFace
from pgpo_jax.models import Decoder, render_messages, sample
from pgpo_jax.tasks import Question, load_questions
from pgpo_jax.training import Policy, load_policy

MODULE = "benchmarks.real_model"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="models/smollm2-135m-instruct")
    parser.add_argument("--questions", required=True, help="as of pgpo train --task")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--hugging-face", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--gguf", help="the file that the folder was made of")
    parser.add_argument("--greedy", type=int, default=64, help="greedy tokens of each prompt")
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=64, help="tokens per row that are timed")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a timed prompt")
    parser.add_argument(
        "--same-prompt", action="store_true", help="the rows are samples of one prompt"
    )
    parser.add_argument("--repeats", type=int, default=5)
    add_json_flag(parser)
    return parser.parse_args(arguments)


def padded(prompts: list[list[int]], *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """The prompts side by side, and their mask."""
    width = max(map(len, prompts))
    tokens, mask = (np.zeros((len(prompts), width), np.int32) for _ in range(2))
    for row, ids in enumerate(prompts):
        place = slice(width - len(ids), None) if left else slice(0, len(ids))
        tokens[row, place], mask[row, place] = ids, 1
    return tokens, mask


def compared(
    policy: Policy, model: Decoder, questions: list[Question], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each prompt."""
    chats = [
        [{"role": m.role, "content": m.content} for m in question.messages]
        for question in questions
    ]
    prompts = [render_messages(policy.tokenizer, chat) for chat in chats]
    tokens, mask = padded(prompts, left=False)
    logits = nnx.jit(lambda model, tokens, mask: model(tokens, mask))
    out = sample(
        model,
        *padded(prompts, left=True),
        jax.random.key(0),
        max_new_tokens=args.greedy,
        temperature=0.0,
        eos_id=policy.eos_ids,
        pad_id=policy.pad_id,
    )
    folder = [args.model] if args.gguf is None else [args.model, args.gguf]
    script = Path(__file__).with_name("_reference_model.py")
    reference = Child([args.hugging_face, str(script), *folder])
    if "error" in reference.about:
        raise SystemExit(f"--hugging-face cannot serve: {reference.about['error']}")
    rows = []
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        for i, (chat, ids) in enumerate(zip(chats, prompts, strict=True)):
            request = {"messages": chat, "ids": ids, "new": args.greedy, "file": file.name}
            answer = reference.ask(request)
            theirs = np.load(file.name)
            ours = np.asarray(logits(model, tokens[i : i + 1], mask[i : i + 1]))[0, : len(ids)]
            made = np.asarray(out.tokens[i])[np.asarray(out.mask[i])].tolist()
            difference, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
            rows.append(
                {
                    "prompt": i,
                    "tokens": len(ids),
                    "same_ids": ids == answer["ids"],
                    "difference": difference,
                    "largest_logit": largest,
                    "within": difference <= 2e-3 * largest,
                    "same_greedy": made == answer["greedy"],
                    "greedy": len(made),
                    "ended": made[-1] in policy.eos_ids,
                    **tie(logits, model, ids, made, answer["greedy"]),
                }
            )
            print(table([rows[-1]]), file=sys.stderr, flush=True)
    reference.close()
    return rows


def tie(
    logits: Callable[..., Any],
    model: Decoder | None,
    ids: list[int],
    one: list[int],
    other: list[int],
) -> dict[str, Any]:
    """Where two continuations part, and by how much our logits prefer one token to the other."""
    if one == other:
        return {}
    common = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    if common >= min(len(one), len(other)):
        return {"parts_at": common}
    read = np.array([ids + one[:common]], np.int32)
    last = np.asarray(logits(model, read, np.ones_like(read)))[0, -1]
    return {"parts_at": common, "gap": float(abs(last[one[common]] - last[other[common]]))}


def timed(
    policy: Policy, model: Decoder, questions: list[Question], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each number of rows: tokens per second here and elsewhere, in turns."""
    prompts = [policy.encode_question(question) for question in questions]
    long = [ids[: args.prompt] for ids in prompts if len(ids) >= args.prompt]
    if not long:
        raise SystemExit(f"no prompt has --prompt {args.prompt} tokens")
    other = HuggingFace(args.hugging_face, args.model, "float32")
    script = Path(__file__).with_name("_llama_cpp.py")
    third = None if args.gguf is None else Child([args.hugging_face, str(script), args.gguf])
    # A number that no text of this model holds, so that every row goes on to its last token.
    never = policy.tokenizer.convert_tokens_to_ids("<reponame>") or 0
    settings: dict[str, Any] = {"max_new_tokens": args.new, "eos_id": never, "pad_id": 0}
    generate = argparse.Namespace(new=args.new, prompt=args.prompt, temperature=1.0, top_p=1.0)
    rows = []
    for count in args.rows:
        samples = count if args.same_prompt else 1
        read = np.array([long[i % len(long)] for i in range(count // samples)], np.int32)
        # What `generate` makes of `num_return_sequences`.
        tokens = read.repeat(samples, axis=0)
        theirs: list[float] = []
        fourbit: list[float] = []
        runs: dict[str, Callable[[], Any]] = {
            "ours": lambda read=read, samples=samples: sample(
                model,
                read,
                np.ones_like(read),
                jax.random.key(0),
                samples_per_prompt=samples,
                **settings,
            ),
            "hugging_face": lambda tokens=tokens, theirs=theirs: theirs.append(
                other.generate(generate, tokens)
            ),
        }
        if count == 1 and third is not None and "error" not in third.about:
            request = {"tokens": tokens[0].tolist(), "new": args.new}
            runs["llama_cpp"] = lambda request=request, fourbit=fourbit: fourbit.append(
                third.ask(request)["seconds"]
            )
        seconds = in_turns(runs, args.repeats)["ours"]
        made = count * args.new
        row = {
            "rows": count,
            "prompts": len(read),
            "tokens_per_second": made / statistics.median(seconds),
        }
        # The first call is not counted, on any side.
        for name, taken in (("hugging_face", theirs[1:]), ("llama_cpp", fourbit[1:])):
            if taken:
                row[name] = made / statistics.median(taken)
                row |= {f"ratio_{name}_{k}": v for k, v in ratio(taken, seconds).items()}
        rows.append(row)
    other.close()
    if third is not None:
        if "error" in third.about:
            print(f"llama.cpp is not measured: {third.about['error']}", file=sys.stderr)
        third.close()
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    policy, params = load_policy(args.model)
    model = nnx.merge(policy.graphdef, params)
    questions = list(load_questions(args.questions)[: args.prompts])
    parity = compared(policy, model, questions, args)
    for name in ("same_ids", "within", "same_greedy", "ended"):
        print(f"{name}: {sum(row[name] for row in parity)} of {len(parity)}")
    speed = timed(policy, model, questions, args) if args.rows else []
    given = sys.argv[1:] if arguments is None else arguments
    return report(MODULE, given, [*parity, *speed], args.json)


if __name__ == "__main__":
    main()
