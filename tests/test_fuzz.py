"""Whatever is typed or lies in a file is taken, or refused in one line: never a traceback."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.__main__ import main
from models import ModelError, find_card
from prompts.texts import texts_in

EVERY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
READ_ONLY = ("list", "run", "draw", "verify", "models", "check", "nonsense", "")
"""Commands that write nothing when what they are given does not exist."""
FIELDS = ("source", "path", "weights", "sha256", "config", "arithmetic", "nll", "hub", "wheels")
values = st.text(max_size=20) | st.integers() | st.booleans() | st.floats()


def refusal(act, kind) -> str:
    """Why something is refused; empty where it is taken."""
    try:
        act()
    except kind as error:
        return str(error)
    return ""


@EVERY
@given(st.binary(max_size=200))
def test_any_bytes_are_prompts_or_refused(tmp_path, content):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    told = refusal(lambda: texts_in(file), ValueError)
    assert "\n" not in told
    assert not told or str(file) in told


@EVERY
@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=5) | st.text(max_size=60))
def test_any_card_is_read_or_refused(tmp_path, content):
    file = tmp_path / "card.toml"
    if isinstance(content, dict):
        lines = (f"{k} = {str(v).lower() if not isinstance(v, str) else repr(v)}" for k, v in
                 content.items())  # fmt: skip
        content = "\n".join(lines)
    file.write_text(content, encoding="utf-8", errors="surrogatepass")
    assert "\n" not in refusal(lambda: find_card(str(file)), ModelError).strip()


@EVERY
@given(st.sampled_from(READ_ONLY), st.lists(st.text(max_size=12), max_size=4))
def test_any_words_are_a_command_or_refused(capsys, tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    try:
        code = main([command, *words])
    except SystemExit as stop:  # argparse has shown its help
        code = stop.code
    told = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert "Traceback" not in told
    assert code != 2 or len(told.splitlines()) >= 1
