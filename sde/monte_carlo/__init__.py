"""Monte Carlo: samples and expectations of chains and of equations, chunk by chunk."""

from sde.monte_carlo._brownian import Normals as Normals
from sde.monte_carlo._chain import chain_program as chain_program
from sde.monte_carlo._control_variate import Estimate as Estimate
from sde.monte_carlo._ensemble import (
    CHUNK as CHUNK,
    even_chunks as even_chunks,
    gather as gather,
    over_chunks as over_chunks,
)
from sde.monte_carlo._equation import equation_program as equation_program
from sde.monte_carlo._expectation import (
    Observables as Observables,
    estimate_chain as estimate_chain,
    estimate_equation as estimate_equation,
    estimate_in_chunks as estimate_in_chunks,
    moment_sums as moment_sums,
)
from sde.monte_carlo._simulate import run_chain as run_chain, simulate as simulate
