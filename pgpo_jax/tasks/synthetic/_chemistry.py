"""Questions on molar mass, amounts and the rest of a reaction."""

from pgpo_jax.tasks.synthetic._kind import Kind, factor_pairs, minus, over, plus, ratio_pairs, times

KINDS = (
    Kind(
        "molar mass",
        "Atom X weighs {a} u, atom Y {b} u. How much does XY weigh in u?",
        factor_pairs,
        lambda x, y: (plus(x, y), times(x, y), minus(x, y)),
    ),
    Kind(
        "moles",
        "A salt has {b} g/mol. How many mol are {a} g?",
        ratio_pairs,
        lambda m, M: (over(m, M), plus(m, M), minus(m, M)),
    ),
    Kind(
        "reaction",
        "Acid and base react one to one: {a} mol acid, {b} mol base. How many mol are left?",
        factor_pairs,
        lambda x, y: (minus(x, y), plus(x, y), times(x, y)),
    ),
)
