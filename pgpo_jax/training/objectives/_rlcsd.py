from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pgpo_jax._categorical import finite, token_log_probs
from pgpo_jax.distillation import (
    Contrasted,
    HeadLoss,
    TokenLoss,
    contrasted_advantages,
    hint_contrast,
    policy_loss,
)
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks import CONTEXTS, Message, Question
from pgpo_jax.training.config import LossConfig, PolicyConfig, RlcsdConfig
from pgpo_jax.training.objectives._advantages import group_advantages
from pgpo_jax.training.objectives._means import mean_over_loss
from pgpo_jax.training.objectives._models import Models
from pgpo_jax.training.objectives._taught import Known, Passed, Taught, of_each_row
from pgpo_jax.training.objectives._teaching import (
    chosen_solutions,
    encoded_prompts,
    shown_solution,
    wrong_peers,
)
from pgpo_jax.training.rollout._batch import Experience
from pgpo_jax.training.rollout._records import Lesson, Rollout


@dataclass(frozen=True)
class RLCSD(Taught):
    r"""A policy gradient whose advantages are moved by the contrast of hints (arXiv 2606.11709).

    One teacher reads a response behind a right answer of a peer, and behind wrong answers of peers,
    in the same words. Where the two disagree on a token its advantage, GRPO's, is moved (see
    `pgpo_jax.distillation.contrasted_advantages`). The loss is the mean over the tokens that are
    not moved plus the mean over those that are:

    $$L = -\frac{1}{N_0} \sum_{t \notin S} r_t A_t - \frac{\eta}{N_S} \sum_{t \in S} r_t A'_t$$

    Responses without a right peer or without a wrong one are dropped, as in the authors' code. The
    loss may be negative. The number of moved tokens is that of the whole batch: with micro-batches
    the teacher passes each response twice.

    Args:
        teacher: which weights the teacher has.
        loss: the reduction is `token_mean`; its divergence has no part.
        information: the estimator of I, measured behind the right hint.
        policy: the advantages.
        rlcsd: the hints and how far they move an advantage.

    Raises:
        ValueError: another reduction.

    >>> RLCSD().rlcsd.wrong_hints
    4

    Added in version 0.2.0.
    """

    loss: LossConfig = LossConfig(reduction="token_mean")
    policy: PolicyConfig = PolicyConfig()
    rlcsd: RlcsdConfig = RlcsdConfig()

    def __post_init__(self) -> None:
        if self.loss.reduction != "token_mean":
            raise PGPOValueError(
                "loss.reduction must be 'token_mean' with objective 'rlcsd', which has one mean "
                f"over the moved tokens and one over the others; got {self.loss.reduction!r}"
            )

    loss_name: ClassVar[str] = "token_loss"
    kept_numbers: ClassVar[tuple[str, ...]] = ("contrast", "moved")

    @property
    def needs_whole_batch(self) -> bool:
        """True: the number of tokens that are moved."""
        return True

    @property
    def further_prompts(self) -> int:
        """Wrong hints."""
        return self.rlcsd.wrong_hints

    @property
    def columns(self) -> tuple[str, ...]:
        """The advantage of the response, and the number of its wrong hints."""
        return (*super().columns, "advantage", "wrong_hints")

    def prepare(self, rollout: Rollout) -> Lesson:
        """Keeps the responses that have a right peer and a wrong one."""
        right, solved = chosen_solutions(rollout, self.teacher)
        most = self.rlcsd.wrong_hints
        wrong = wrong_peers(rollout, self.teacher, most)
        both = solved & (np.array([len(peers) for peers in wrong]) > 0)

        def encoded(peers: Sequence[int]):
            def chat(row: int, question: Question) -> Sequence[Message] | None:
                if not both[row]:
                    return None
                text = shown_solution(rollout.responses.texts[peers[row]], self.teacher)
                if text is None:
                    return None
                hinted = replace(question, solution=text)
                prompt = CONTEXTS["opsd"].prompt(hinted, self.teacher.template)
                return None if prompt is None else question.messages_with(prompt)

            return encoded_prompts(rollout, chat, self.teacher)

        first = encoded(right.tolist())
        # A place without a wrong peer of its own repeats the last one, which is then not read.
        others = [
            encoded([peers[min(k, len(peers) - 1)] if peers else -1 for peers in wrong])
            for k in range(most)
        ]
        held = [np.isin(np.arange(len(wrong)), list(found.ids)) for found in (first, *others)]
        kept = np.logical_and.reduce(held)
        advantages = group_advantages(rollout, self.policy.advantage).ravel()
        counts = np.array([max(len(peers), 1) for peers in wrong], np.float32)
        overlong = np.logical_or.reduce([found.overlong for found in (first, *others)])
        lesson = Lesson(
            kept,
            first.ids,
            first.texts,
            columns={"advantage": advantages, "wrong_hints": counts},
            facts={"contrasted": both, "hints": counts * kept, "overlong": overlong},
            further_prompts=[found.ids for found in others],
        )
        return self.weighed(rollout, lesson)

    def row_metrics(self, rows: dict[str, np.ndarray], samples: int) -> dict[str, float]:
        """What there is to learn from, and what was left out."""
        del samples
        kept = float(rows["kept"].sum())
        return {
            "self_distillation/reprompt_sample_fraction": kept / len(rows["kept"]),
            "self_distillation/dropped_teacher_prompts": float(rows["overlong"].sum()),
            "rlcsd/contrasted_fraction": float(rows["contrasted"].mean()),
            "rlcsd/wrong_hints": float(rows["hints"].sum()) / max(kept, 1.0),
        }

    def token_loss(self, models: Models) -> TokenLoss:
        """The policy loss with moved advantages, over the two means."""
        del models

        def loss(student: Array, teacher: Array, chunk: dict[str, Array]) -> Array:
            del teacher
            logprobs = finite(token_log_probs(student, chunk["tokens"]))
            old = jax.lax.stop_gradient(logprobs)
            return policy_loss(logprobs, old, chunk["advantages"]) * chunk["share"]

        return loss

    def beforehand(self, models: Models, batch: Experience) -> dict[str, Array]:
        """The number of tokens that are moved."""
        passed = self.passed(models, batch)
        contrast = self._contrast(models, batch, passed)
        return self._weight_beforehand(models, batch, passed) | {
            "moved_count": self._moved(batch, contrast)[1].sum(dtype=jnp.int32)
        }

    def completed(
        self, models: Models, batch: Experience, denominators: dict[str, Any], passed: Passed
    ) -> dict[str, Any]:
        """Also the contrast at each token, and the number of tokens that are moved."""
        contrast = self._contrast(models, batch, passed)
        count = denominators.get("moved_count")
        if count is None:
            count = self._moved(batch, contrast)[1].sum(dtype=jnp.int32)
        return denominators | {"contrast": contrast, "moved_count": count}

    def per_token(self, batch: Experience, known: Known) -> dict[str, Float[Array, "R T"]]:
        """The advantage of each token, and what its loss is multiplied by to be of its mean."""
        found = known.denominators
        contrast = found["contrast"]
        advantages, moved = self._moved(batch, contrast)
        count, total = (
            jnp.asarray(found[name]).astype(contrast.dtype)
            for name in ("moved_count", "num_tokens")
        )
        of_moved = self.rlcsd.moved_weight * total / jnp.maximum(count, 1.0)
        share = jnp.where(moved, of_moved, total / jnp.maximum(total - count, 1.0))
        return {
            "advantages": advantages,
            "share": share,
            "contrast": contrast,
            "moved": moved.astype(contrast.dtype),
        }

    def metrics(self, out: HeadLoss, batch: Experience) -> dict[str, Array]:
        """Also the contrast, and the share of tokens that it moved."""
        assert out.numbers is not None
        contrast, counted = out.numbers["contrast"], self.counted(batch)
        return super().metrics(out, batch) | {
            "rlcsd/contrast": mean_over_loss(counted, contrast),
            "rlcsd/contrast_size": mean_over_loss(counted, jnp.abs(contrast)),
            "rlcsd/moved_fraction": mean_over_loss(counted, out.numbers["moved"]),
        }

    def _moved(self, batch: Experience, contrast: Float[Array, "R T"]) -> Contrasted:
        """The advantages, and the tokens of the loss that are moved."""
        settings, counted = self.rlcsd, self.counted(batch)
        found = contrasted_advantages(
            of_each_row(batch, "advantage")["advantage"],
            contrast,
            scale=settings.scale,
            temperature=settings.temperature,
            clip=settings.clip,
            threshold=settings.threshold,
        )
        inside = counted.response_mask & batch.sequence_mask[:, None]
        return found._replace(selected=found.selected & inside)

    def _contrast(self, models: Models, batch: Experience, passed: Passed) -> Float[Array, "R T"]:
        """The contrast of hints at each token, nats; a pass of the teacher per wrong hint."""
        assert batch.columns is not None

        def behind(_: None, prompts: Any) -> tuple[None, Float[Array, "R T"]]:
            rows = batch.taught_behind(prompts)
            return None, self._logprobs(models, rows, *self._teacher(models, rows))

        _, wrong = jax.lax.scan(behind, None, batch.each_further_prompt())
        # Padding has none.
        count = jnp.maximum(batch.columns["wrong_hints"], 1).astype(jnp.int32)
        return hint_contrast(self._logprobs(models, batch, *passed[2:]), wrong, count)
