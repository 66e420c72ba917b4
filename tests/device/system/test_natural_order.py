"""The order of numbered names."""

from cellseg_device.system.natural_order import natural_key


def test_numbers_in_names_count_as_numbers():
    names = ["IMG_10.png", "day 2/a.png", "IMG_2.png", "day 10/a.png", "IMG_1.png", "B7_10", "B7_9", "B10_1"]
    assert sorted(names, key=natural_key) == [
        "B7_9", "B7_10", "B10_1", "day 2/a.png", "day 10/a.png", "IMG_1.png", "IMG_2.png", "IMG_10.png",
    ]  # fmt: skip


def test_names_that_differ_have_an_order_of_their_own():
    names = ["a1", "a01", "A1", "a001", "a", "", "1", "01", "a1b", "é2", "É2", "²"]
    assert len({natural_key(name) for name in names}) == len(names)
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


def test_a_number_of_any_length_is_one():
    longest = "9" * 5000
    assert sorted(["x1" + "0" * 5000, f"x{longest}", "x7"], key=natural_key) == ["x7", f"x{longest}", "x1" + "0" * 5000]
