"""The curves of runs over their steps."""

from collections.abc import Sequence

from pgpo_jax.reports._curves import Curve
from pgpo_jax.reports._page import Page
from pgpo_jax.reports._run_record import RunRecord

_STEP = "optimizer step"
_HESITATION = "rollout/hesitation_words"
_DIAGNOSTICS = (
    (
        _HESITATION,
        "Hesitation in the answers",
        "words per answer",
        "Words such as wait, hmm, perhaps and maybe. Fewer of them is a surer style.",
    ),
    (
        "distillation/overlap_ratio",
        "Overlap of student and teacher",
        "share of the most likely words",
        "How many of the student's most likely next words are among the teacher's.",
    ),
    (
        "distillation/overlap_advantage",
        "Agreement on the words in common",
        "nats per token",
        "0 where both weigh the words that they have in common alike, else below.",
    ),
    (
        "distillation/entropy_gap",
        "Gap of the entropies",
        "nats per token",
        "Mean distance of the entropies of student and teacher.",
    ),
)


def add_curves(page: Page, records: Sequence[RunRecord]) -> None:
    held_out = []
    for i, record in enumerate(records):
        points = record.accuracies()
        held_out.append(
            Curve(
                record.name,
                [step for step, _ in points],
                [interval.value for _, interval in points],
                [interval.low for _, interval in points],
                [interval.high for _, interval in points],
                colour=i,
            )
        )
    page.curves(
        held_out,
        title="Held-out accuracy",
        x_label=_STEP,
        y_label="share of right answers",
        y_range=(0.0, 1.0),
        caption="Questions that were never trained on; the band is the 95 % interval over them.",
    )

    def plain(metric: str, title: str, y_label: str, caption: str, **options: object) -> None:
        page.curves(
            [Curve(r.name, *r.series(metric), colour=i) for i, r in enumerate(records)],
            title=title,
            x_label=_STEP,
            y_label=y_label,
            caption=caption,
            **options,  # pyright: ignore[reportArgumentType]
        )

    plain(
        "rollout/accuracy",
        "Accuracy on the training questions",
        "share of right answers",
        "The student's own answers at each step, before it learns from them.",
        y_range=(0.0, 1.0),
    )
    plain(
        "pgpo/information",
        "Information I",
        "nats per token",
        "How much surer the teacher, who has seen a solution, is of the next token than the "
        "student. It measures confidence, not whether the teacher is right.",
        reference=0.0,
    )
    plain(
        "pgpo/rho",
        "Step multiplier ρ",
        "ρ (1 = plain step)",
        "Each update is multiplied by ρ = exp(α I), capped. SDPO is the same program with α = 0, "
        "so ρ = 1.",
        reference=1.0,
    )
    page.curves(
        [
            Curve(
                f"{r.name}, {who}",
                *r.series(f"self_distillation/{who}_entropy"),
                colour=i,
                dash=dash,
            )
            for i, r in enumerate(records)
            for dash, who in enumerate(("student", "teacher"))
        ],
        title="Entropies",
        x_label=_STEP,
        y_label="nats per token",
        caption="How undecided each side is about the next token; 0 is certain.",
    )
    plain(
        "rollout/response_length",
        "Length of the answers",
        "tokens",
        "Mean number of tokens of an answer, its end included.",
    )
    # Runs of former versions, or without loss.overlap_k, do not have them.
    for metric, title, y_label, caption in _DIAGNOSTICS:
        values = [value for record in records for value in record.series(metric)[1]]
        # Short answers hold no such word: a figure of zeros would show nothing.
        if values and (metric != _HESITATION or any(values)):
            plain(metric, title, y_label, caption)
    plain(
        "self_distillation/reprompt_sample_fraction",
        "Answers with a teacher signal",
        "share of answers",
        "An answer teaches only if another answer to the same question was right and can be shown "
        "to the teacher.",
        y_range=(0.0, 1.0),
    )
