"""The report of the study of science questions."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from experiments.sweeps._bootstrap import paired_bootstrap
from experiments.sweeps._compare import Comparison, compare
from experiments.sweeps._power import too_few
from experiments.sweeps._records import finished_records
from experiments.sweeps._results import Call, write_results
from experiments.sweeps._sections import comparison_section, curve_section, in_words
from experiments.sweeps._seed_means import mean_of, over_seeds
from experiments.sweeps._sweep import Sweep
from experiments.sweeps.science_qa._arms import Config, domain_of, methods
from experiments.sweeps.science_qa._selection import RULES, quote, selection
from pgpo_jax.reports import Cell, Interval, Page


def report(config: Config, sweep: Sweep, call: Call) -> str:
    """Writes the report; returns the verdict."""
    seeds, records = finished_records(sweep)
    quoted = {name: [quote(run) for run in runs] for name, runs in records.items()}
    domains, names = [domain_of(task) for task in config.tasks], list(methods(config))

    def table_of(domain: str, name: str, rule: str) -> Float[np.ndarray, "S Q"]:
        return np.array([q[rule] for q in quoted[f"{domain}-{name}"]])

    pooled = {
        name: np.concatenate([table_of(d, name, RULES[0]) for d in domains], axis=1)
        for name in names
    }
    together = compare(pooled, [(n, "sdpo") for n in names if n != "sdpo"], margin=config.margin)
    apart = compare(
        {f"{d}, {n}": table_of(d, n, RULES[0]) for d in domains for n in names},
        [(f"{d}, {n}", f"{d}, sdpo") for d in domains for n in names if n != "sdpo"],
        margin=config.margin,
    )
    chosen = selection(quoted, domains, names)
    verdict = _verdict(together, apart, chosen, len(seeds))
    decided = sum(c.verdict in ("better", "worse") for c in (*together, *apart))
    page = Page(
        "SDPO and PGPO in four domains",
        too_few(len(seeds))
        or f"{len(seeds)} seeds; {decided} of {len(together) + len(apart)} comparisons with SDPO "
        "find a difference.",
    )
    page.heading("Every alpha against SDPO, all domains together")
    comparison_section(page, together, outcome="accuracy at the fixed step", margin=config.margin)
    page.heading("Domain by domain")
    rows: list[list[Cell]] = [
        [
            domain,
            name,
            *(_share(table_of(domain, name, rule)) for rule in RULES),
            over_seeds([mean_of(run, "pgpo/rho") for run in records[f"{domain}-{name}"]]),
        ]
        for domain in domains
        for name in names
    ]
    page.table(
        ["domain", "method", *RULES, "mean ρ"],
        rows,
        caption=f"avg@{config.training.evaluation.samples} on the test half. Brackets: 95 % "
        "intervals that allow for other seeds and other questions (ρ: other seeds).",
    )
    comparison_section(page, apart, outcome="accuracy at the fixed step", margin=config.margin)
    page.heading("What selection adds")
    page.table(
        ["quantity", "accuracy"],
        [
            ["best on test minus best on validation, mean of all runs", chosen["evaluation"]],
            ["best alpha by test minus SDPO (the paper's rule)", chosen["alpha"]],
            [
                "the same, each alpha's mean difference taken away (nothing to find)",
                chosen["noise"],
            ],
            ["best of other SDPO seeds by test minus SDPO (nothing to find)", chosen["seed"]],
            ["mean alpha minus SDPO, fixed step (nothing chosen)", chosen["fixed"]],
        ],
        caption="Means over domains and seeds with 95 % t-intervals over seeds.",
    )
    page.heading("Curves")
    for domain in domains:
        curve_section(
            page,
            {name: records[f"{domain}-{name}"] for name in names},
            "eval/accuracy",
            title=f"Held-out accuracy, {domain}",
            label="share of right answers",
            note="Both halves together; mean over seeds with its 95 % band.",
        )
    write_results(
        sweep,
        page,
        {
            "seeds": seeds,
            "all domains": [c.to_json() for c in together],
            "by domain": [c.to_json() for c in apart],
            "selection": chosen,
            "table": [
                {"domain": row[0], "method": row[1], "rho": row[-1]}
                | dict(zip(RULES, row[2:5], strict=True))
                for row in rows
            ],
        },
        call=call,
        verdict=verdict,
    )
    return verdict


def _share(scores: Float[np.ndarray, "S Q"]) -> Interval:
    mean, low, high = paired_bootstrap(scores)[0]
    return Interval(mean, max(0.0, low), min(1.0, high))


def _verdict(
    together: Sequence[Comparison],
    apart: Sequence[Comparison],
    chosen: Mapping[str, Interval],
    seeds: int,
) -> str:
    decided = sum(c.verdict in ("better", "worse") for c in apart)
    return (
        f"{too_few(seeds)} At the fixed step, all domains together, {seeds} seeds: "
        f"{in_words(together)}. By domain, {decided} of {len(apart)} comparisons find a "
        f"difference after Holm. Choosing alpha and step on the test split adds "
        f"{chosen['alpha'].text()} to PGPO; without the alphas' mean differences it adds "
        f"{chosen['noise'].text()}, and among SDPO runs of other seeds {chosen['seed'].text()}."
    ).strip()
