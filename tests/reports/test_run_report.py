import json
import shutil
from pathlib import Path

import pytest

from pgpo_jax.reports import read_run, write_run_report

DATA = Path(__file__).parent / "data"
CURVES = (
    "Held-out accuracy",
    "Accuracy on the training questions",
    "Information I",
    "Step multiplier ρ",
    "Entropies",
    "Length of the answers",
    "Answers with a teacher signal",
)


@pytest.fixture
def run(tmp_path):
    """A copy of a recorded run, to be damaged."""
    return Path(shutil.copytree(DATA / "pgpo", tmp_path / "pgpo"))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_runs_on_one_page(tmp_path):
    runs = {"SDPO": DATA / "sdpo", "PGPO": DATA / "pgpo"}
    path = write_run_report(runs, tmp_path / "new" / "report.html", command="pgpo demo")
    html = path.read_text(encoding="utf-8")
    for title in CURVES:
        assert f"<h3>{title}</h3>" in html
    assert "PGPO − SDPO" in html
    assert "<code>pgpo demo</code>" in html
    differing = html[html.index("Settings in which the runs differ") :]
    assert differing[: differing.index("</table>")].count("<tr>") == 2, "head and `method`"
    again = write_run_report(runs, tmp_path / "again.html", command="pgpo demo")
    assert again.read_bytes() == path.read_bytes()


def test_the_table_holds_the_numbers_of_the_files(tmp_path):
    record = read_run(DATA / "pgpo")
    scores = lines(DATA / "pgpo" / "evaluations.jsonl")
    last = scores[-1]["scores"]
    mean = sum(last.values()) / len(last)
    assert record.accuracies()[-1][0] == 4
    assert record.accuracies()[-1][1].value == pytest.approx(mean)
    html = write_run_report({"PGPO": DATA / "pgpo"}, tmp_path / "r.html").read_text()
    assert f"<span>{mean:.3f}</span>" in html
    rho = [row["pgpo/rho"] for row in lines(DATA / "pgpo" / "metrics.jsonl") if "loss" in row]
    assert f"<span>{sum(rho) / len(rho):.3f}</span>" in html
    # Not the mean of 9 s (with compilation) and three times 1.2 s.
    assert 1.1 < record.seconds_per_step() < 1.5


def test_nulls_and_a_line_cut_off_by_a_crash_are_gaps(run, tmp_path):
    steps, values = read_run(run).series("pgpo/information")
    assert steps == [1, 2, 3, 4]
    assert [value != value for value in values] == [False, True, False, False]
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 0.')
    assert len(read_run(run).steps) == 4
    write_run_report({"a": run}, tmp_path / "r.html")


def test_runs_that_have_only_begun(run, tmp_path):
    (run / "evaluations.jsonl").unlink()
    (run / "timings.jsonl").unlink()
    (run / "metrics.jsonl").write_text("")
    html = write_run_report({"a": run, "b": DATA / "sdpo"}, tmp_path / "r.html").read_text()
    assert "no data" not in html.split("<h3>Length of the answers</h3>")[1].split("</figure>")[0]
    alone = write_run_report({"a": run}, tmp_path / "alone.html").read_text()
    assert alone.count(">no data<") == len(CURVES)


def test_diagnostics_are_shown_where_a_run_has_them(run, tmp_path):
    titles = ("Hesitation in the answers", "Overlap of student and teacher", "Gap of the entropies")
    html = write_run_report({"a": run}, tmp_path / "without.html").read_text()
    assert not any(f"<h3>{title}</h3>" in html for title in titles)
    rows = lines(run / "metrics.jsonl")
    # A figure of hesitation in answers without any is left out.
    for words, shown in ((0.5, [True, True, False]), (0.0, [False, True, False])):
        for row in rows:
            if "loss" in row:
                row |= {"rollout/hesitation_words": words, "distillation/overlap_ratio": 0.0}
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        html = write_run_report({"a": run}, tmp_path / "with.html").read_text()
        assert [f"<h3>{title}</h3>" in html for title in titles] == shown


def test_many_runs(tmp_path):
    runs = {f"run {i}": DATA / ("sdpo" if i % 2 else "pgpo") for i in range(10)}
    html = write_run_report(runs, tmp_path / "r.html").read_text()
    first = html.split("<h3>Held-out accuracy</h3>")[1].split("</figure>")[0]
    assert first.count("<li>") == 10


def test_hostile_names_and_settings_are_inert(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["model"] = config["task"] = "<script>alert(1)</script>"
    (run / "config.json").write_text(json.dumps(config))
    path = write_run_report(
        {"<script>a</script>": run, "b": DATA / "sdpo"}, tmp_path / "r.html", command="<script>"
    )
    assert "<script" not in path.read_text()
    assert "&lt;script&gt;alert(1)" in path.read_text()


def test_folders_without_a_run_are_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run in .*nowhere: config\.json is missing"):
        write_run_report({"a": tmp_path / "nowhere"}, tmp_path / "r.html")
    with pytest.raises(ValueError, match="at least one run"):
        write_run_report({}, tmp_path / "r.html")
    (run / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is not JSON"):
        read_run(run)
    (run / "metrics.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"line 1 must be an object with a step"):
        read_run(run)
    (run / "metrics.jsonl").write_text("")
    for row in ('{"step": 1}', '{"step": 1, "scores": [1.0]}', '{"step": 1, "scores": {"q": "a"}}'):
        (run / "evaluations.jsonl").write_text(row + "\n")
        with pytest.raises(ValueError, match=r"evaluations\.jsonl, step 1 must have scores"):
            read_run(run)
    (run / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json must hold a JSON object, got \[1\]"):
        read_run(run)
    assert not (tmp_path / "r.html").exists()
