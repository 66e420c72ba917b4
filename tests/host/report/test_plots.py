import cv2
import pytest

from cellseg_host.report import plots
from cellseg_host.training.history import Epoch


def epochs(count, best=2, **scores):
    scores = scores or {"val_loss": 2.0, "ap50": 0.5, "mean_ap": 0.3, "mean_iou": 0.7}
    return [Epoch(n, 1, 3.0 / n, 1e-3, n == best, {k: v / n for k, v in scores.items()}) for n in range(1, count + 1)]


def axes_of(figure):
    return {axes.get_ylabel(): axes for axes in figure.axes}


def test_a_run_has_its_losses_and_scores():
    shown = axes_of(plots.curves({"": epochs(4)}))
    assert list(shown) == ["loss", "mean AP, validation", "AP@0.5, validation", "mean IoU, validation"]
    assert [t.get_text() for t in shown["loss"].get_legend().get_texts()] == ["training", "validation"]
    line, best = shown["mean AP, validation"].lines
    assert line.get_ydata().tolist() == pytest.approx([0.3, 0.15, 0.1, 0.075])
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (2, 0.15)


def test_a_metric_of_the_users_own_is_shown_first():
    shown = axes_of(plots.curves({"": epochs(3, mine=5.0, val_loss=1.0, ap50=0.5, mean_ap=0.3, mean_iou=0.7)}))
    assert list(shown)[:2] == ["loss", "mine, validation"]
    assert len(shown) == 4
    assert shown["mine, validation"].get_ylim()[1] > 1


def test_runs_of_different_kinds_share_a_chart():
    shown = axes_of(plots.curves({"a": epochs(3), "b": epochs(1, best=9, val_loss=0.5, auc=0.9)}))
    assert len(shown["loss"].lines) == 4
    assert len(shown["mean AP, validation"].lines) == 2
    assert {"AP@0.5, validation", "mean IoU, validation"} < set(shown)


def test_a_long_way_down_is_shown_on_a_logarithmic_scale():
    assert axes_of(plots.curves({"": epochs(3)}))["loss"].get_yscale() == "linear"
    assert axes_of(plots.curves({"": epochs(40)}))["loss"].get_yscale() == "log"


def test_history_is_written_as_a_picture(tmp_path):
    plots.history(epochs(3), tmp_path / "history.png")
    height, width, _ = cv2.imread(str(tmp_path / "history.png")).shape
    assert width > 1000
    assert height > 300


def test_outlines_are_as_wide_as_asked(draw_labels):
    labels = draw_labels()
    widths = []
    for width in (1, 3):
        panel = plots.enlarged(labels, 120).astype("uint8")[..., None].repeat(3, axis=2) * 0
        plots.outline(panel, plots.enlarged(labels, 120), (255, 0, 0), width)
        widths.append(int((panel[..., 0] > 0).sum()))
    assert widths[1] > 2 * widths[0]


def test_the_gallery_shows_images_of_few(model, tiny_dataset, tmp_path):
    from cellseg_host.evaluation.evaluate import evaluate

    scores = list(evaluate(model, tiny_dataset, tiny_dataset.split("val")))
    plots.gallery(model, tiny_dataset, scores[:1], tmp_path / "gallery.jpg")
    assert cv2.imread(str(tmp_path / "gallery.jpg")) is not None
