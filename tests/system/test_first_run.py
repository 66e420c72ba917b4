"""What a new user sees: what is going to be done, with what, and what was done; folders, order, doing it again."""

import json
import shutil
import signal

import pytest

OTHERS = ("x.heic", "y.czi", "z.CZI")
PASSED_OVER = "warning: 3 image files are passed over, since .czi and .heic cannot be read: save them as TIFF"
FAST = ("--settle", "0", "--poll", "0.1")


@pytest.fixture
def captures(tmp_path, write_image):
    """Two images, one that is none, and three of kinds that are not read."""
    folder = tmp_path / "captures"
    folder.mkdir()
    for seed, name in enumerate(("IMG_10.png", "IMG_2.png")):
        write_image(folder / name, seed=seed)
    for name in ("bad.png", *OTHERS):
        (folder / name).write_bytes(b"of another kind")
    return folder


def names(result):
    return [line.split("  ")[0] for line in result.stdout.splitlines()[:-1]]


def test_a_folder_can_be_run(device, captures, check_results):
    done = device("run", captures)
    assert (done.returncode, names(done)) == (1, ["IMG_2.png", "IMG_10.png"])
    assert done.stderr.splitlines() == [
        PASSED_OVER,
        "error: bad.png: is not a PNG, JPEG or TIFF image: convert it, or move it away",
    ]
    check_results(captures / "cellseg-results", ["IMG_2.png", "IMG_10.png"])
    assert "0 done, 1 failed, 2 done before" in device("watch", captures, "--once").stdout
    assert device("summary", captures).returncode == 0


def test_the_folders_in_a_folder_are_run_if_asked_for(device, captures, tmp_path, write_image, table):
    (captures / "day").mkdir()
    inner = write_image(captures / "day" / "a.png", seed=5)
    (captures / "bad.png").unlink()
    assert names(device("run", captures, "--recursive")) == ["day/a.png", "IMG_2.png", "IMG_10.png"]
    assert (captures / "cellseg-results" / "day-a.labels.tif").exists()
    for command in (["run", captures, "--recursive"], ["watch", captures, "--recursive", "--once"]):
        assert "0 done, 0 failed, 3 done before" in device(*command).stdout
    shutil.rmtree(captures / "cellseg-results")
    both = device("run", captures, inner, cwd=tmp_path)  # whose results go beside the user, as those of files
    assert names(both) == ["captures/day/a.png", "captures/IMG_2.png", "captures/IMG_10.png"]
    assert len(table(tmp_path / "cellseg-results" / "counts.csv")) == 3


def test_one_image_has_one_name_whoever_counts_it_from_wherever(device, captures, write_image, check_results):
    (captures / "bad.png").unlink()
    out = captures / "cellseg-results"
    assert device("run", "IMG_2.png", cwd=captures).returncode == 0
    link = captures.parent / "link"
    link.symlink_to(captures)
    for command in (
        ["run", "captures/IMG_2.png", "--out", "captures/cellseg-results"],
        ["run", captures / "IMG_2.png", "--out", out],
        ["run", link / "IMG_2.png", "--out", link / "cellseg-results"],
    ):
        assert "0 done, 0 failed, 1 done before" in device(*command, cwd=captures.parent).stdout
    assert "1 done, 0 failed, 1 done before" in device("watch", captures, "--once").stdout
    check_results(out, ["IMG_2.png", "IMG_10.png"])
    captures = captures.rename(captures.parent / "archive")
    for command in (["run", captures / "IMG_10.png", "--out", captures / "cellseg-results"], ["run", captures]):
        assert "0 done, 0 failed" in device(*command).stdout


@pytest.fixture
def linked(tmp_path, write_image):
    """A folder with an image and a link to another folder with one."""
    for seed, name in enumerate(("exp", "other")):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / f"{name}.png", seed=seed)
    (tmp_path / "exp" / "link").symlink_to("../other")
    return tmp_path / "exp"


def test_an_image_by_a_link_is_counted_once_under_one_name(watching, device, linked, check_results):
    watch = watching(linked, "--recursive", *FAST)
    watch.until_done("exp.png", "link/other.png")
    assert watch.stop() == 0
    again = watching(linked, "--recursive", *FAST)
    again.until(lambda: "watching" in again.stderr)
    assert again.stop() == 0
    assert again.stderr.splitlines()[0] == f"watching {linked}: 2 images, 2 done, 0 to do"
    assert again.stdout == ""
    assert "0 done, 0 failed, 2 done before" in device("run", linked, "--recursive").stdout
    check_results(linked / "cellseg-results", ["exp.png", "link/other.png"])


def test_run_names_an_image_by_a_link_as_a_watch_does(watching, device, linked, check_results):
    assert names(device("run", linked, "--recursive")) == ["exp.png", "link/other.png"]
    check_results(linked / "cellseg-results", ["exp.png", "link/other.png"])
    assert (linked / "cellseg-results" / "link-other.labels.tif").exists()
    shutil.rmtree(linked / "cellseg-results")
    assert device("run", linked / "link" / "other.png", "--out", linked / "cellseg-results").returncode == 0
    watch = watching(linked, "--recursive", *FAST)
    watch.until_done("exp.png")
    assert watch.stop() == 0
    assert watch.stderr.splitlines()[0] == f"watching {linked}: 2 images, 1 done, 1 to do"
    assert watch.stdout.count("\n") == 1


def test_an_image_that_was_counted_by_another_way_is_not_counted_again(
    watching, device, linked, write_image, check_results
):
    out = linked / "cellseg-results"
    assert device("watch", linked.parent / "other", "--once", "--out", out).returncode == 0
    for seed, after in ((3, "m.png"), (4, "n.png")):  # whose turn comes later
        write_image(linked / after, seed=seed)
        watch = watching(linked, "--recursive", *FAST)
        watch.until_done(after)
        assert watch.stop() == 0
        assert "other.png" not in watch.stdout
    check_results(out, ["other.png", "exp.png", "m.png", "n.png"])


def test_failures_elsewhere_are_none_of_the_watched_folder(watching, device, captures, tmp_path):
    (captures / "sub").mkdir()
    for place in (captures / "sub", tmp_path):
        (place / "junk.png").write_bytes(b"of another kind")
    assert device("watch", captures, "--recursive", "--once").returncode == 1
    assert device("run", tmp_path / "junk.png", "--out", captures / "cellseg-results").returncode == 1
    (captures / "bad.png").write_bytes(b"changed since")
    watch = watching(captures, "--settle", "1h")
    watch.until(lambda: "watching" in watch.stderr)
    assert watch.stop() == 0
    assert f"watching {captures}: 3 images, 2 done, 1 to do" in watch.stderr


def test_a_watch_says_what_it_does_and_what_it_did(watching, captures, write_image):
    out = captures / "cellseg-results"
    watch = watching(captures, *FAST)
    watch.until_done("IMG_2.png", "IMG_10.png")
    watch.until(lambda: "bad.png" in watch.stderr)
    (captures / "new.nd2").write_bytes(b"of another kind")
    watch.until(lambda: ".nd2" in watch.stderr)
    for name in ("more.heic", "next.nd2"):  # of which all has been said
        (captures / name).write_bytes(b"of another kind")
    write_image(captures / "IMG_11.png", seed=7, mtime=None)
    watch.until_done("IMG_11.png")
    assert watch.stop(signal.SIGINT) == 0
    first, results, model, *others, last = watch.stderr.splitlines()
    assert first == f"watching {captures}: 3 images, 0 done, 3 to do"
    assert results == f"results: {out}"
    assert model.startswith("model: nuclei or chamber, by the gate kind (bundled), on ")
    assert sorted(others) == [
        "error: bad.png: is not a PNG, JPEG or TIFF image: convert it, or move it away",
        "warning: 1 image file is passed over, since .nd2 cannot be read: save it as TIFF",
        PASSED_OVER,
    ]
    assert last.startswith("stopped after 4 images: 3 done, 1 failed; ")
    assert last.endswith(f"; {out}")
    assert watch.stdout.count("\n") == 3
    again = watching(captures, *FAST)
    again.until(lambda: again.stderr.count("\n") >= 4)
    assert again.stop() == 0
    assert again.stderr.splitlines()[0] == f"watching {captures}: 4 images, 3 done, 1 failed, 0 to do"
    assert again.stderr.splitlines()[-1].startswith("stopped after 0 images: ")


def test_an_image_that_is_named_twice_is_done_once(device, captures, tmp_path):
    image = captures / "IMG_2.png"
    done = device("run", "captures", captures, image, "captures/../captures/IMG_2.png", cwd=tmp_path)
    assert names(done) == ["captures/IMG_2.png", "captures/IMG_10.png"]
    assert done.stdout.splitlines()[-1].startswith("3 images: 2 done, 1 failed; ")
    assert done.stderr.splitlines()[0].startswith("warning: 3 image files are passed over")


@pytest.mark.parametrize("options", [[], ["--json"], ["--quiet"]])
def test_a_run_without_images_makes_nothing(device, tmp_path, options):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for folders, words in ((["a"], "a"), (["a", "b"], "a and b")):
        done = device("run", *folders, *options, cwd=tmp_path)
        assert done.returncode == 0
        said, nothing = (done.stderr, done.stdout) if options else (done.stdout, done.stderr)
        assert said == ("" if "--quiet" in options else f"no images in {words}: nothing to do\n")
        assert nothing == ""
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "b"]


def test_in_json_standard_output_has_nothing_else(device, watching, captures):
    watch = watching(captures, *FAST, "--json")
    watch.until(lambda: watch.stdout.count("\n") == 3)
    assert watch.stop() == 0
    assert {json.loads(line)["image"] for line in watch.stdout.splitlines()} == {"IMG_2.png", "IMG_10.png", "bad.png"}
    assert watch.stderr.splitlines()[-1].startswith("stopped after 3 images: ")


@pytest.mark.parametrize("command", [["run", "{}"], ["watch", "{}", "--once"]])
def test_quiet_leaves_only_warnings_and_errors(device, captures, command):
    done = device(*[word.replace("{}", str(captures)) for word in command], "--quiet")
    assert done.stdout == ""
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["warning", "error"]


@pytest.mark.parametrize(
    "command", [["run", "{}"], ["watch", "{}", "--once"], ["run", "{}/IMG_2.png", "{}/IMG_10.png"]]
)
def test_redo_counts_again_what_was_counted(device, captures, check_results, command):
    (captures / "bad.png").unlink()
    command = [*(word.replace("{}", str(captures)) for word in command), "--out", str(captures / "cellseg-results")]
    assert "2 done, 0 failed" in device(*command).stdout
    labels = captures / "cellseg-results" / "IMG_2.labels.tif"
    before = labels.read_bytes(), labels.stat().st_ino
    assert "0 done, 0 failed, 2 done before" in device(*command).stdout
    assert labels.stat().st_ino == before[1]
    assert "2 done, 0 failed" in device(*command, "--redo").stdout
    assert labels.read_bytes() == before[0]
    assert labels.stat().st_ino != before[1]
    check_results(captures / "cellseg-results", ["IMG_2.png", "IMG_10.png"])


def test_a_watch_does_not_count_all_again_at_each_start(device, captures):
    done = device("watch", captures, "--redo")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --redo goes with --once: a watch would count all images again at each start")
