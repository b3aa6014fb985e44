"""The chains that have a name."""

from types import MappingProxyType

from sde._adaptive import adaptive_chain
from sde._chains import SGD, MinibatchPGPO, PopulationPGPO, RememberingPGPO

CHAINS = MappingProxyType(
    {
        "sgd": SGD(),
        "pgpo_population": PopulationPGPO(),
        "pgpo_minibatch": MinibatchPGPO(),
        # The signal of the previous minibatch, measured where that minibatch was drawn; like
        # pgpo_jax.scale_by_information(delay=1), the first step has rho(0) = 1.
        "pgpo_delayed": RememberingPGPO(beta=0.0, initial_information=0.0),
        "pgpo_ema": RememberingPGPO(beta=0.5),
        "pgpo_momentum": adaptive_chain(first=2.0, name="pgpo_momentum"),
        "pgpo_rmsprop": adaptive_chain(second=1.0, name="pgpo_rmsprop"),
        "pgpo_adam": adaptive_chain(first=2.0, second=1.0, name="pgpo_adam"),
    }
)
"""The chains by name: the optimizers whose steps an equation is to follow."""
