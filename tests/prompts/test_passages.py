from prompts.passages import passages


def test_thirty_passages_of_several_kinds_and_none_twice() -> None:
    found = passages()
    assert len({passage.text for passage in found}) == len(found) == 30
    assert len({passage.kind for passage in found[:8]}) == 8
    assert all(passage.text == passage.text.strip() for passage in found)


def test_each_is_long_enough_to_be_cut_in_two() -> None:
    assert min(len(passage.text.split()) for passage in passages()) >= 40
