"""The work folder belongs to one request, by one command at a time."""

import pytest

from cellseg_device.errors import InputError, OutputError
from cellseg_host.adapt import start as starts
from cellseg_host.adapt import work
from cellseg_host.adapt.pace import AFTER_TRAINING, Pace
from cellseg_host.adapt.settings import Settings

ABOUT = {"format": "1", "corrections": "a", "start": "b", "replay": None, "settings": {"seed": 0}}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return starts.find(None, None, "", tmp_path_factory.mktemp("none"))


def begin(folder, start, **changes):
    with work.opened(folder, ABOUT | changes, start, resume=False) as kept:
        return kept


def test_a_start_model_is_kept_in_it(tmp_path, start):
    kept = begin(tmp_path / "work", start)
    assert kept.path.read_bytes() == start.path.read_bytes()
    assert kept.path.name == "nuclei.tflite"
    assert tmp_path in kept.path.parents


def test_what_was_begun_is_gone_on_with_only_if_asked(tmp_path, start):
    begin(tmp_path / "work", start)
    with pytest.raises(InputError, match="is not empty: --resume what was begun in it, remove it, or choose another"):
        begin(tmp_path / "work", start)
    with work.opened(tmp_path / "work", ABOUT, start, resume=True) as kept:
        assert kept.path.is_file()


def test_a_new_folder_may_be_resumed_too_so_that_one_command_does_for_both(tmp_path, start):
    with work.opened(tmp_path / "new", ABOUT, start, resume=True) as kept:
        assert kept.path.is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corrections": "x"}, "other corrections"),
        ({"settings": {"seed": 1}, "start": "x"}, "another start model and other settings"),
    ],
)
def test_another_request_is_not_mixed_with_it(tmp_path, start, changes, words):
    begin(tmp_path / "work", start)
    with (
        pytest.raises(InputError, match=f"was begun with {words}: resume it as it was begun"),
        work.opened(tmp_path / "work", ABOUT | changes, start, resume=True),
    ):
        pass


def test_other_people_s_folders_are_left_alone(tmp_path, start):
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError), work.opened(tmp_path, ABOUT, start, resume=resume):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_kill_in_the_first_moment_leaves_nothing_in_the_way(tmp_path, start):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".lock").touch()
    assert begin(tmp_path / "work", start).path.is_file()


def test_two_commands_do_not_work_in_one_folder(tmp_path, start):
    with (
        work.opened(tmp_path / "work", ABOUT, start, resume=False),
        pytest.raises(OutputError, match="another command is at work there"),
        work.opened(tmp_path / "work", ABOUT, start, resume=True),
    ):
        pass


def test_the_time_left_is_that_of_all_models():
    now = [0.0]
    pace = Pace((50, 100), lambda: now[0])
    after = AFTER_TRAINING * 100
    assert pace.left_s() is None
    pace.step(1)
    now[0] = 49.0
    pace.step(50)
    assert pace.left_s() == pytest.approx(after + 100 + after)
    now[0] += after
    pace.model()
    assert pace.left_s() == pytest.approx(100 + after)
    now[0] += 100
    pace.step(100)
    assert pace.left_s() == pytest.approx(after)
    pace.model()
    assert pace.left_s() == 0


def test_what_an_earlier_command_did_takes_no_time():
    now = [0.0]
    pace = Pace((100, 100), lambda: now[0])
    pace.model()
    pace.step(10)
    now[0] = 45.0
    pace.step(55)
    assert pace.left_s() == pytest.approx((250 - 125 - 55) * 45 / 55)


def test_what_is_only_judged_is_trained_half_as_long():
    assert (Settings(epochs=6).short.epochs, Settings(epochs=1).short.epochs) == (3, 1)


@pytest.mark.parametrize(
    ("diameter_px", "views"),
    [(0.0, (128, 16)), (20.0, (128, 16)), (40.0, (160, 10)), (65.0, (256, 4)), (400.0, (256, 4))],
)
def test_larger_cells_are_learnt_from_larger_and_fewer_views(diameter_px, views):
    assert Settings().views(diameter_px) == views
    side, batch = views
    assert side**2 * batch == pytest.approx(128**2 * 16, rel=0.03)
