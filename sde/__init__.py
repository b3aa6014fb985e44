"""The laboratory of stochastic differential equations behind PGPO."""
