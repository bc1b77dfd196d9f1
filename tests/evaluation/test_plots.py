"""Pictures of results: of any names, and the same numbers give the same file."""

import matplotlib
import numpy as np
import pytest
from matplotlib.texmanager import TexManager
from scipy.sparse import coo_array

from froster_hf.evaluation.plots import plot_base_novel, plot_class_accuracies, plot_confusion, plot_similarity_gain

# matplotlib would read these as mathematics, and fail; as a hidden name; as control characters.
HOSTILE = [r"win $\frac{1$ or $100", "_hidden", "\x1b]0;title\x07\nline", "<b>bold</b>", "骑" * 50]


plots_of_hostile_names = pytest.mark.parametrize(
    "plot",
    [
        lambda path: plot_confusion(coo_array(np.eye(5)), HOSTILE, path, title=HOSTILE[0]),
        lambda path: plot_confusion(
            coo_array(([2, 1], ([0, 1999], [1999, 0])), shape=(2000, 2000)), HOSTILE * 400, path, title=HOSTILE[0]
        ),
        lambda path: plot_class_accuracies(np.ones(5), HOSTILE, path, title=HOSTILE[0]),
        lambda path: plot_base_novel(
            {name: (70.0, 50.0 + row) for row, name in enumerate(HOSTILE)},
            {HOSTILE[0]: [60.0, 40.0, 48.0]},
            path,
            title=HOSTILE[2],
        ),
        lambda path: plot_similarity_gain(
            [{"name": name, "similarity": 0.5, "gain": 1.0} for name in HOSTILE], path, title=HOSTILE[0]
        ),
    ],
    ids=["confusion", "large confusion", "classes", "base and novel", "similarity"],
)


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
@plots_of_hostile_names
def test_names_are_drawn_as_they_are_and_never_as_mathematics(plot, tmp_path):
    plot(tmp_path / "plots" / "a.png")
    plot(tmp_path / "plots" / "b.png")
    files = sorted((tmp_path / "plots").iterdir())
    assert [file.name for file in files] == ["a.png", "b.png"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
@plots_of_hostile_names
def test_no_name_is_read_by_latex_whatever_the_settings_of_matplotlib_say(plot, tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setattr(TexManager, "make_dvi", None)
    plot(tmp_path / "a.png")
    assert matplotlib.rcParams["text.usetex"]
