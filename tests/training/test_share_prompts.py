"""Prompts that are read once for all their rows: the same batch, the same step, less of it."""

import jax
import numpy as np
import pytest

from pgpo_jax.training import MeshConfig, make_trainer
from tests.training.conftest import replaced
from tests.training.test_train import SMALL

SHARED = replaced(SMALL, rollout={"share_prompts": True})


def rows_of(experience):
    """The prompts as they stand before each row, without padding."""
    owners = (experience.prompt_owner, experience.teacher_prompt_owner)
    blocks = (
        (experience.prompt, experience.prompt_mask),
        (experience.teacher_prompt, experience.teacher_prompt_mask),
    )
    return [
        [tokens[i][mask[i]].tolist() for i in (owner if owner is not None else range(len(tokens)))]
        for owner, (tokens, mask) in zip(owners, blocks, strict=True)
    ]


@pytest.mark.slow
def test_a_shared_prompt_gives_the_same_step(monkeypatch):
    import pgpo_jax.training._trainer as module

    seen, metrics, real = [], [], module.pack

    def spy(*args, **kw):
        out = real(*args, **kw)
        seen.append(out[0])
        return out

    monkeypatch.setattr(module, "pack", spy)
    for config in (SMALL, SHARED):
        trainer = make_trainer(config)
        metrics.append(trainer.step(trainer.initial_state)[1].metrics)
    plain, shared = seen
    kept = plain.sequence_mask
    assert kept.any()
    for a, b in zip(rows_of(plain), rows_of(shared), strict=True):
        assert [x for x, k in zip(a, kept, strict=True) if k] == [
            x for x, k in zip(b, kept, strict=True) if k
        ]
    assert len(plain.prompt) == 8
    assert len(shared.prompt) == 2
    for name, value in metrics[0].items():
        np.testing.assert_allclose(metrics[1][name], value, rtol=2e-4, atol=2e-6, err_msg=name)
    # The control: a row that continues another prompt is another batch.
    wrong = shared._replace(prompt_owner=1 - shared.prompt_owner)
    assert rows_of(wrong)[0] != rows_of(shared)[0]
    other = make_trainer(SHARED)
    loss = other._step(other.initial_state, jax.tree.map(np.asarray, wrong))[1]["loss"]
    assert abs(float(loss) - metrics[0]["loss"]) > 1e-4


def test_runs_of_one_program_share_it():
    one, two = (
        make_trainer(replaced(SHARED, seed=seed, task=f"synthetic:{task}"))
        for seed, task in ((0, "all"), (1, "physics"))
    )
    assert one._step.program is two._step.program
    other = make_trainer(replaced(SHARED, optimizer={"clip_norm": 0.5}))
    assert one._step.program is not other._step.program


def test_sharing_needs_one_device():
    with pytest.raises(ValueError, match=r"share_prompts needs one device, got 'a mesh of 2'"):
        replaced(SHARED, mesh=MeshConfig(fsdp=2))
    with pytest.raises(
        ValueError, match=r"needs all rows at once: .*micro_batch must be None, got 2"
    ):
        replaced(SHARED, optimizer={"micro_batch": 2})
