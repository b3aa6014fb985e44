"""Estimators of how much the feedback tells about the next token, in nats."""

from pgpo_jax._reduce import REDUCTIONS as REDUCTIONS, mean_over as mean_over
from pgpo_jax.information._belief_shift import (
    belief_shift as belief_shift,
    largest_share as largest_share,
)
from pgpo_jax.information._contrast import outcome_contrast as outcome_contrast
from pgpo_jax.information._entropy import entropy_gain as entropy_gain, entropy_gain_per_token
from pgpo_jax.information._group_shift import (
    group_belief_shift as group_belief_shift,
    largest_share_of_groups as largest_share_of_groups,
)
from pgpo_jax.information._js import js_gain as js_gain, js_gain_per_token
from pgpo_jax.information._kl import kl_gain as kl_gain, kl_gain_per_token
from pgpo_jax.information._outcome import outcome_gain as outcome_gain
from pgpo_jax.information._pointwise import (
    pointwise_gain as pointwise_gain,
    pointwise_gain_per_token,
)

ESTIMATORS = {
    "entropy": entropy_gain_per_token,
    "kl": kl_gain_per_token,
    "js": js_gain_per_token,
    "pointwise": pointwise_gain_per_token,
}
"""Name -> function of (student_logits, teacher_logits, tokens) that gives nats per token."""
SIGNALS = (*ESTIMATORS, "outcome")
"""What the fused head chooses from: `ESTIMATORS`, and the pointwise gain signed by the grader."""
CHOICES = (*SIGNALS, "outcome_contrast")
"""What configs choose from: `SIGNALS`, and the contrast of the classes, of whole batches only."""
