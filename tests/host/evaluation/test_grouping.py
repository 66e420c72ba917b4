from dataclasses import dataclass

from cellseg_host.evaluation.grouping import groups


@dataclass(frozen=True)
class Image:
    set: str
    modality: str


def test_one_set_is_grouped_by_modality_alone():
    images = [Image("s", "phase"), Image("s", "dic"), Image("s", "phase")]
    assert groups(images) == {"all": [0, 1, 2], "dic": [1], "phase": [0, 2]}
    assert list(groups(images)) == ["all", "dic", "phase"]


def test_several_sets_are_groups_too_and_their_modalities_if_there_are_several():
    images = [Image("b", "phase"), Image("a", "dic"), Image("b", "dic"), Image("a", "dic")]
    found = groups(images)
    assert found == {
        "all": [0, 1, 2, 3],
        "dic": [1, 2, 3],
        "phase": [0],
        "a": [1, 3],
        "b": [0, 2],
        "b, dic": [2],
        "b, phase": [0],
    }
    assert list(found)[3:] == ["a", "b", "b, dic", "b, phase"]


def test_a_set_with_the_name_of_a_modality_is_a_group_of_its_own():
    images = [Image("phase", "dic"), Image("phase", "phase"), Image("other", "phase")]
    found = groups(images)
    assert found["phase"] == [1, 2]
    assert found["phase (set)"] == [0, 1]
    assert found["phase (set), dic"] == [0]
