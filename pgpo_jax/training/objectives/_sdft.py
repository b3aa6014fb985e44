from dataclasses import dataclass
from typing import ClassVar

from pgpo_jax.training.objectives._by_data import TaughtByData


@dataclass(frozen=True)
class SDFT(TaughtByData):
    """Self-distillation fine-tuning: the teacher is shown an example response (arXiv 2601.19897).

    Every response to a question with a `demonstration` trains. In the runs of the authors the
    teacher is a moving average with the rate .01. The loss is KL(q||p) over the whole vocabulary
    (`loss.teacher_weight=0`; Eq. 1 of the paper prints KL(p||q), which is 1). They leave out the
    first 3 tokens (`loss.skip_tokens`) and weight each response by one ratio
    (`loss.rollout_level="sequence"`). A response of no more tokens than are left out counts in the
    mean, with 0.

    Args:
        teacher: which weights the teacher has.
        loss: the divergence and how it is reduced.
        information: the estimator of I, and the multiplier of a modulated loss.

    >>> from pgpo_jax.training import LossConfig
    >>> SDFT(loss=LossConfig(skip_tokens=3)).context.column
    'demonstration'

    Added in version 0.2.0.
    """

    name: ClassVar[str] = "sdft"
