"""Many training runs that differ in one thing, and what is said of their differences.

An arm is one way to train. A `Sweep` trains every arm at every seed; `compare` pairs the runs by
seed and question. `ControlledConfig` is a run whose information is replaced.
"""

from experiments.sweeps._bootstrap import Variance as Variance, paired_bootstrap as paired_bootstrap
from experiments.sweeps._collapse import (
    collapse_step as collapse_step,
    first_negative as first_negative,
)
from experiments.sweeps._command import (
    SweepConfig as SweepConfig,
    make_sweep as make_sweep,
    parse as parse,
    run_experiment as run_experiment,
)
from experiments.sweeps._compare import (
    Comparison as Comparison,
    compare as compare,
    holm as holm,
    verdict as verdict,
)
from experiments.sweeps._controlled_config import (
    ControlConfig as ControlConfig,
    ControlledConfig as ControlledConfig,
)
from experiments.sweeps._controlled_objective import ControlledSDPO as ControlledSDPO
from experiments.sweeps._dose import DoseConfig as DoseConfig, dose_presets as dose_presets
from experiments.sweeps._misleading import mislead as mislead
from experiments.sweeps._power import (
    FEWEST_SEEDS as FEWEST_SEEDS,
    detectable_difference as detectable_difference,
    power as power,
    seeds_needed as seeds_needed,
    too_few as too_few,
)
from experiments.sweeps._provenance import provenance as provenance
from experiments.sweeps._records import (
    OUTCOME as OUTCOME,
    SETTLED as SETTLED,
    Records as Records,
    finished_records as finished_records,
    later as later,
    scores as scores,
)
from experiments.sweeps._replay import (
    FollowSteps as FollowSteps,
    ReplayState as ReplayState,
    controlled as controlled,
)
from experiments.sweeps._results import write_results as write_results
from experiments.sweeps._sections import (
    comparison_section as comparison_section,
    curve_section as curve_section,
    in_words as in_words,
)
from experiments.sweeps._seed_means import (
    arm_means as arm_means,
    mean_of as mean_of,
    over_seeds as over_seeds,
    share_over_seeds as share_over_seeds,
)
from experiments.sweeps._settings import TRAINING as TRAINING, changed as changed
from experiments.sweeps._shares import (
    SharesCompared as SharesCompared,
    compare_shares as compare_shares,
    detectable_share as detectable_share,
    share as share,
)
from experiments.sweeps._sweep import Arm as Arm, Finished as Finished, Sweep as Sweep
