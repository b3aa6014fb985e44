"""Estimators of the information in the feedback about the next token, in nats."""

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
"""Estimators by name: functions of (student_logits, teacher_logits, tokens) that return nats per
token."""
SIGNALS = (*ESTIMATORS, "outcome")
"""Estimators of the fused head: `ESTIMATORS` and the pointwise gain signed by the grade."""
CHOICES = (*SIGNALS, "outcome_contrast")
"""Estimators of a config: `SIGNALS` and the contrast of right and wrong, for whole batches only."""
