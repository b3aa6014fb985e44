"""One side of two benchmarks: TRL's own SDPO loss and AdamW in PyTorch, a step a request.

Run by `benchmarks.real_step` and `benchmarks.peers` as
`PYTHON _trl_steps.py FOLDER SHAPE eager|compiled`, in an interpreter with torch, transformers and
trl. SHAPE is JSON: the arguments of `grouped_tokens`, and `support` of our `LossConfig`. It imports
nothing of the package. The trainer object is made without its constructor, which needs data sets
and an accelerator. The time is that of its `compute_loss`, the backward pass, the clipping, the
fused AdamW and the update of the EMA teacher.
"""

import collections
import inspect
import json
import os
import resource
import sys
import time
import types


def main() -> None:
    # Answers go to the pipe; whatever else is printed goes where the log goes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder, shape, kind = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    try:
        import numpy as np
        import torch  # pyright: ignore[reportMissingImports]  # only in that interpreter
        import trl  # pyright: ignore[reportMissingImports]  # only in that interpreter
        import trl.experimental.sdpo.sdpo_trainer as module  # pyright: ignore[reportMissingImports]
        from _grouped_tokens import grouped_tokens  # beside this file
        from transformers import AutoModelForCausalLM
        from trl.trainer.callbacks import (  # pyright: ignore[reportMissingImports]
            SyncRefModelCallback,
        )
    except ImportError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    def load():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    model, teacher = load().train(), load().eval().requires_grad_(False)
    vocabulary, rows = model.config.vocab_size, shape["rows"]
    full = shape.pop("support", "topk_tail") == "full"
    found = grouped_tokens(vocabulary, **shape)
    prompt = torch.tensor(found["prompt"][found["prompt_owner"]])
    shown = torch.tensor(found["teacher_prompt"][found["teacher_prompt_owner"]])
    response = torch.tensor(found["response"])
    seen = torch.cat([shown, response], 1)
    uniform = -float(np.log(vocabulary))
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": response,
        "completion_mask": torch.ones_like(response),
        "teacher_input_ids": seen,
        "teacher_attention_mask": torch.ones_like(seen),
        "self_distillation_mask": torch.ones(rows),
        "old_per_token_logps": torch.full(response.shape, uniform),
    }
    trainer = module.SDPOTrainer.__new__(module.SDPOTrainer)
    trainer.args = types.SimpleNamespace(
        distillation_weight=1.0,
        distillation_mode="full_logits" if full else "topk_logits",
        distillation_topk=None if full else 100,
        distillation_alpha=0.5,
        distillation_add_tail=True,
        distillation_is_clip=2.0,
        teacher_model_kind="ema",
        teacher_update_rate=0.05,
        teacher_sync_steps=1,
    )
    trainer.use_teacher_server, trainer.temperature = False, 1.0
    trainer.model, trainer.teacher_model = model, teacher
    trainer.model_kwarg_keys = inspect.signature(model.forward).parameters.keys()
    trainer.accelerator = types.SimpleNamespace(gather=lambda x: x, unwrap_model=lambda m: m)
    trainer._metrics = {name: collections.defaultdict(list) for name in ("train", "eval")}
    trainer.current_gradient_accumulation_steps = 1
    student = model
    if kind == "compiled":
        student = torch.compile(model, dynamic=False)
        trainer.teacher_model = torch.compile(teacher, dynamic=False)
        for name in (
            "compute_topk_self_distillation_loss",
            "compute_full_logit_self_distillation_loss",
            "selective_log_softmax",
        ):
            setattr(module, name, torch.compile(getattr(module, name), dynamic=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
    about = {"trl": trl.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(about), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = trainer.compute_loss(student, inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            SyncRefModelCallback._sync_target_model(model, teacher, 0.05)
        answer = {
            "seconds": time.perf_counter() - start,
            "loss": float(loss.detach()),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
