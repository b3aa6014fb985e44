"""Self-distillation losses, per token, per batch, and fused with the output head."""

from pgpo_jax.distillation._advantage import advantage_loss as advantage_loss
from pgpo_jax.distillation._aggregate import aggregate as aggregate
from pgpo_jax.distillation._contrast import (
    Contrasted as Contrasted,
    contrasted_advantages as contrasted_advantages,
    hint_contrast as hint_contrast,
)
from pgpo_jax.distillation._cross_entropy_head import (
    cross_entropy_head_loss as cross_entropy_head_loss,
)
from pgpo_jax.distillation._divergence import divergence as divergence, on_support as on_support
from pgpo_jax.distillation._head import sdpo_head_loss as sdpo_head_loss
from pgpo_jax.distillation._head_entropies import (
    head_divergences as head_divergences,
    head_entropies as head_entropies,
    head_logprobs as head_logprobs,
)
from pgpo_jax.distillation._head_sharding import HeadSharding as HeadSharding
from pgpo_jax.distillation._importance import (
    importance_ratio as importance_ratio,
    rollout_correction as rollout_correction,
    sequence_ratio as sequence_ratio,
)
from pgpo_jax.distillation._modulation import modulation_weights as modulation_weights
from pgpo_jax.distillation._overlap import Overlap as Overlap, overlap as overlap
from pgpo_jax.distillation._policy import policy_loss as policy_loss
from pgpo_jax.distillation._policy_head import policy_head_loss as policy_head_loss
from pgpo_jax.distillation._rescaled import (
    rescaled_advantages as rescaled_advantages,
    rescaled_loss as rescaled_loss,
)
from pgpo_jax.distillation._routed import (
    entropy_weights as entropy_weights,
    rebellious_weights as rebellious_weights,
    routed_loss as routed_loss,
)
from pgpo_jax.distillation._signal_weights import (
    certainty_weights as certainty_weights,
    pass_rate_weights as pass_rate_weights,
    position_weights as position_weights,
)
from pgpo_jax.distillation._taught_head import (
    HeadLoss as HeadLoss,
    TokenLoss as TokenLoss,
    taught_head_loss as taught_head_loss,
)
from pgpo_jax.distillation._teacher import trust_region_logits as trust_region_logits
from pgpo_jax.distillation._token_loss import PolicyLoss as PolicyLoss
from pgpo_jax.distillation._token_share import share_threshold as share_threshold
from pgpo_jax.distillation._turns_head import (
    turns_head_loss as turns_head_loss,
    turns_token_loss as turns_token_loss,
)
