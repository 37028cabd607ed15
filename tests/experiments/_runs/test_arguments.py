"""Whatever is typed is a field's value or an error in one line, never a traceback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import Experiment, UsageError
from experiments._runs.arguments import build, configure
from experiments._runs.words import split


class Typed(Experiment):
    count: int = 3
    names: tuple[str, ...] = ()
    loud: bool = False

    def measure(self, model): ...

    def headline(self, results): ...

    def figures(self, results): ...

    def claims(self, results): ...


FIELDS = sorted(Typed.model_fields)
words = st.text(min_size=1).filter(lambda word: not word.startswith("--"))


@given(st.integers(-(10**9), 10**9), st.lists(words, min_size=1))
def test_what_is_typed_is_what_is_set(count, names):
    typed = configure(Typed, None, ["--count", str(count), "--names", *names, "--loud"])
    assert (typed.count, typed.names, typed.loud) == (count, tuple(names), True)
    assert typed.changed().keys() <= {"count", "names", "loud"}


def refusal(fields) -> str:
    """Why these fields are refused; empty where they are not."""
    try:
        build(Typed, fields, "here.toml")
    except UsageError as error:
        return str(error)
    return ""


@given(st.dictionaries(st.sampled_from(FIELDS) | words, words | st.integers() | st.none()))
def test_any_fields_are_taken_or_refused_by_file_and_field(fields):
    told = refusal(fields)
    if told:
        assert told.startswith("here.toml: ")
        assert any(repr(name) in told or f"field {name}" in told for name in fields)
    else:
        assert fields.keys() <= Typed.model_fields.keys()


@pytest.mark.parametrize("device", ["auto", "cuda:0,cuda:1", "gpu", "cuda:x"])
def test_a_device_is_one_that_there_may_be(device):
    assert refusal({"device": device}) == (
        f"here.toml: {Typed.name()}, field device: give cpu, mps, cuda or, of several, one such as "
        f"cuda:1 (got {device!r})"
    )
    assert refusal({"device": "cuda:1"}) == ""


def test_a_fault_of_a_preset_names_its_file_and_the_command_line_wins(tmp_path):
    preset = tmp_path / "preset.toml"
    preset.write_text("count = 'many'")
    with pytest.raises(UsageError, match=r"preset\.toml: .*field count"):
        configure(Typed, preset, ["--count", "1"])
    preset.write_text("count = 4\nloud = true")
    typed = configure(Typed, preset, ["--count", "1"])
    assert (typed.count, typed.loud) == (1, True)


@given(st.lists(st.text()))
def test_any_words_are_split_or_refused(typed):
    try:
        options = split(typed)
    except UsageError:
        assert not typed[0].startswith("--") or len(typed[0]) == 2
    else:
        values = sum(map(len, options.values()))
        assert values <= len(typed)


@pytest.mark.parametrize("word", ["--count=5", "--count"])
def test_an_equals_sign_serves_as_a_space(word):
    assert configure(Typed, None, [word] if "=" in word else [word, "5"]).count == 5
