"""Physics-Guided Policy Optimization (arXiv 2606.03620) as optax building blocks."""

from pgpo_jax._version import __version__ as __version__
