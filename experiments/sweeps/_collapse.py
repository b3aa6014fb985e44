"""When a run falls, and when its signal does."""

from pgpo_jax.reports import RunRecord


def collapse_step(run: RunRecord) -> int | None:
    """The first evaluation from which on accuracy never again reaches half of the starting model's.

    `None` if there is none. A run that was stopped by gradients that are not finite has collapsed
    where it stopped.
    """
    points = [(step, interval.value) for step, interval in run.accuracies()]
    threshold = points[0][1] / 2
    found = None
    for step, accuracy in reversed(points[1:]):
        if accuracy >= threshold:
            break
        found = step
    # A run that was stopped by gradients that are not finite has no evaluation at its end.
    stopped = run.steps[-1]["step"] if run.steps else 0
    wanted = run.config["steps"]
    return stopped if found is None and stopped < wanted else found


def first_negative(run: RunRecord) -> int | None:
    """The first step whose information is below 0: the teacher less sure than the student."""
    steps, values = run.series("pgpo/information")
    return next((step for step, value in zip(steps, values, strict=True) if value < 0), None)
