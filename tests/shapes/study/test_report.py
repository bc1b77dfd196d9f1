"""The report of a study appears whole, and not in the place of something else."""

import json
import os
import re
import resource
import signal
from pathlib import Path

import pytest

from froster_hf.cli import main
from froster_hf.shapes.study import load_plan, run_study
from froster_hf.shapes.study.report import plot_cost, summary, write_study
from froster_hf.shapes.study.statistics import Estimate, by_pair, estimate

STUDY = Path(__file__).parents[3] / "docs" / "study" / "study.json"
CLEAR = STUDY.parent / "clear" / "study.json"
README = STUDY.parents[2] / "README.md"


@pytest.fixture(scope="module")
def study():
    return json.loads(STUDY.read_text())


@pytest.mark.parametrize(
    "file", [STUDY, CLEAR, STUDY.parent / "direction" / "study.json"], ids=lambda file: file.parent.name
)
def test_a_committed_report_is_what_its_numbers_give(file, tmp_path):
    write_study(json.loads(file.read_text()), tmp_path)
    assert (tmp_path / "README.md").read_text() == file.with_name("README.md").read_text()


def test_the_readme_shows_what_the_study_of_clear_worlds_found():
    assert summary(json.loads(CLEAR.read_text())) in README.read_text()


def test_the_readme_says_what_the_study_of_hard_worlds_found(study):
    said = " ".join(README.read_text().partition("`froster study second`")[2].partition("\n\n")[0].split())
    methods = ("frozen", "plain", "residual", "ST-Adapter residual", "motion adapter")
    means = [f"{100 * estimate(by_pair(study['runs'], method, 'hm')).mean:.1f}" for method in methods]
    assert re.findall(r"(\d+\.\d) \(", said) == means
    report = STUDY.with_name("README.md").read_text()
    (alone,) = re.findall(r"^\| motion adapter \|.*\[-([\d.]+), -([\d.]+)\] \|$", report, flags=re.M)
    (corrected,) = re.findall(r"motion adapter − residual, hm \| -[\d.]+ \[-([\d.]+), \+([\d.]+)\]", report)
    assert f"-{corrected[0]} to {corrected[1]} points, corrected; -{alone[0]} to -{alone[1]} for this" in said


def test_the_introduction_tells_what_makes_a_world_hard_and_how_good_its_clips_are(study, tmp_path):
    hard = {"scene_bias": 0.9, "camera_speed": 0.15, "occlusion_rate": 0.2, "max_crf": 35, "speeds": True}
    told = {
        **study,
        "recipe": {**study["recipe"], "world": {**study["recipe"]["world"], "hardships": hard}},
        "clips": [{"world": 1, "accuracy": 0.71}, {"world": 2, "accuracy": 0.85}],
    }
    text = write_study(told, tmp_path).read_text()
    for part in ("in 90% of the clips the backdrop", "camera", "in front of 20%", "CRF of 35", "speed", "71% to 85%"):
        assert part in text
    assert "What makes them hard" not in (STUDY.parent / "clear" / "README.md").read_text()


def test_what_a_report_repeats_of_a_plan_is_text_in_its_markdown(study, tmp_path):
    told = "`\x1b]0;x\x07 <img src=x>\n# A heading [x](https://evil.example)"
    name = "www.evil.example _x_"
    plan = {**study["plan"], "name": told, "recipe": told, "reference": name}
    plan["methods"] = {name if method == "residual" else method: own for method, own in plan["methods"].items()}
    changed = {**study, "plan": plan}
    for part in ("runs", "trials"):
        changed[part] = [
            {**run, "method": name if run["method"] == "residual" else run["method"]} for run in study[part]
        ]
    for part in ("choices", "gigaflops"):
        changed[part] = {name if method == "residual" else method: own for method, own in study[part].items()}
    text = write_study(changed, tmp_path).read_text()
    assert text.count(r"\`\\x1b\]0;x\\x07 &lt;img src=x&gt;\\n# A heading \[x\](https&#58;//evil.example)") == 2
    assert text.count(r"| www&#46;evil.example \_x\_ |") == 4
    # A span of code is text: names of methods have no backtick.
    assert set(re.findall(r".www\.evil.*", text)) == set(re.findall(r"`www\.evil.example _x_`.*", text))


def test_points_of_the_same_cost_do_not_hide_each_other_and_ensembles_leave_them_room(tmp_path):
    estimates = {name: Estimate(0.5, 0.4, 0.6, 6, "world") for name in ("plain", "residual", "plain + ensemble")}
    costs = {"plain": 300.0, "residual": 300.0, "plain + ensemble": 581.0}
    drawn = {}

    def keep(figure, path):
        drawn["axes"] = figure.axes[0]
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("froster_hf.shapes.study.report.save_figure", keep)
        plot_cost(estimates, costs, tmp_path / "cost.png", reference="residual")
    places = [container[0].get_xdata()[0] for container in drawn["axes"].containers]
    assert len(set(places)) == 2
    assert all(abs(place - 100) < 1 for place in places)
    assert "plain + ensemble (194%)" in drawn["axes"].get_xlabel()


def test_a_full_disk_leaves_the_old_report(study, tmp_path):
    names = ("README.md", "study.json", "harmonic_means.png")
    for name in names:
        (tmp_path / name).write_text("old")
    if (process := os.fork()) == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            write_study(study, tmp_path)
        except OSError:
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "old")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": "my project"}, "a README.md that is not the report of a study"),
        ({"README.md": "x", "study.json": '{"plan": {"name": "other"}}'}, "the report of another plan"),
        ({"cost.png": "mine"}, r"cost\.png exists already"),
    ],
)
def test_a_report_does_not_take_the_place_of_something_else(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        run_study(load_plan("short"), work=tmp_path / "work", output=tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == files


def test_an_output_that_cannot_be_written_to_is_an_error_before_the_work(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    options = ["--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert main(["study", "short", *options]) == 1
    assert "Nothing can be written to" in capsys.readouterr().err
