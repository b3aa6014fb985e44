"""Compiles the programs of a run for accelerators that are not present."""

from pgpo_jax.training.target._chips import CHIPS as CHIPS, Chip as Chip
from pgpo_jax.training.target._hlo import Collective as Collective, ProgramText as ProgramText
from pgpo_jax.training.target._products import Product as Product, products as products
from pgpo_jax.training.target._programs import (
    CompilerRefusal as CompilerRefusal,
    Program as Program,
    compiled_programs as compiled_programs,
    sampler_programs as sampler_programs,
)
from pgpo_jax.training.target._report import (
    ProgramReport as ProgramReport,
    estimated_times as estimated_times,
    report_run as report_run,
)
from pgpo_jax.training.target._targets import (
    ENVIRONMENT as ENVIRONMENT,
    Target as Target,
    parse_target as parse_target,
    target_devices as target_devices,
)
from pgpo_jax.training.target._work import (
    kernel_entries as kernel_entries,
    step_flops as step_flops,
)
