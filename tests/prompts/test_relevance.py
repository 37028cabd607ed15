import re

from prompts.relevance import keyed_prompts

PROMPTS = keyed_prompts()
BY_NAME = {prompt.name: prompt for prompt in PROMPTS}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_names_are_unique():
    assert len(BY_NAME) == len(PROMPTS)


def test_every_key_is_stated_once_and_before_the_end():
    for prompt in PROMPTS:
        assert words(prompt.text).count(prompt.key) == 1, prompt.name
        assert words(prompt.text)[-1] != prompt.key


def test_no_key_stands_where_the_sink_may_be():
    for prompt in PROMPTS:
        assert not prompt.text.startswith(prompt.key), prompt.name


def test_only_a_whole_word_is_said():
    prompt = BY_NAME["drinks"]
    assert prompt.depends(" tea. He is")
    assert not prompt.depends(" team")


def test_no_prompt_holds_the_key_of_another():
    keys = {prompt.key for prompt in PROMPTS}
    for prompt in PROMPTS:
        assert keys & set(words(prompt.text)) == {prompt.key}, prompt.name


def test_a_misleading_word_is_in_its_prompt_and_is_no_key():
    keys = {prompt.key for prompt in PROMPTS}
    for prompt in PROMPTS:
        assert bool(prompt.misleading) == (prompt.kind == "misleading")
        assert prompt.misleading in prompt.text
        assert prompt.misleading not in keys


def test_a_reworded_prompt_asks_for_the_same_word_in_the_same_words():
    for prompt in PROMPTS:
        assert bool(prompt.of) == (prompt.kind == "reworded")
        if prompt.of:
            other = BY_NAME[prompt.of]
            assert other.kind == "planted"
            assert other.key == prompt.key
            assert other.text.split(". ")[-1] == prompt.text.split(". ")[-1]
            assert other.text != prompt.text


def test_there_are_enough_of_each_kind():
    kinds = [prompt.kind for prompt in PROMPTS]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "planted": 36,
        "reworded": 6,
        "misleading": 6,
    }
