"""The fluid of the paper's picture: an underdamped particle whose viscosity the signal sets."""

from sde.viscous._fluid import KICKS as KICKS, Fluid as Fluid
from sde.viscous._limit import (
    MASSES as MASSES,
    MassLimitReport as MassLimitReport,
    measure_mass_limit as measure_mass_limit,
    overdamped_expectation as overdamped_expectation,
)
from sde.viscous._particle import (
    LANGEVIN_SOLVERS as LANGEVIN_SOLVERS,
    particle_expectations as particle_expectations,
    simulate_particle as simulate_particle,
)
