"""Questions on motion, force and current."""

from pgpo_jax.tasks.synthetic._kind import Kind, factor_pairs, minus, over, plus, ratio_pairs, times

KINDS = (
    Kind(
        "distance",
        "A car drives at {a} m/s for {b} s. How far in m?",
        factor_pairs,
        lambda v, t: (times(v, t), plus(v, t), minus(v, t)),
    ),
    Kind(
        "force",
        "A cart of {a} kg speeds up by {b} m/s2. What force in N?",
        factor_pairs,
        lambda m, a: (times(m, a), minus(m, a), plus(m, a)),
    ),
    Kind(
        "current",
        "A battery of {a} V drives {b} ohm. What current in A?",
        ratio_pairs,
        lambda u, r: (over(u, r), minus(u, r), plus(u, r)),
    ),
)
