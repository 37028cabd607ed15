"""Whatever is typed or lies in a file is taken, or refused in one line: never a traceback.

Nothing that lies in a file is executed, and nothing is written outside the folder of runs.
"""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments import UsageError
from experiments.__main__ import main
from experiments._runs.finding import find
from experiments._runs.manifest import manifest_of, verify
from experiments._runs.run import redraw, run
from experiments._runs.store import write_manifest
from experiments._runs.suite import read_suite
from models import ModelError, find_card, load
from prompts.texts import texts_in
from tests.experiments.conftest import COUNTING
from tests.models.tiny import LLAMA, save, tiny
from viz import write_gallery

SOME, MANY = 30, 300
"""Examples of each of seven kinds: 200 and 2,000 in all."""
READ_ONLY = ("list", "run", "draw", "verify", "models", "check", "suite", "export", "nonsense", "")
"""Commands that write nothing when what they are given does not exist."""
FIELDS = ("source", "path", "weights", "sha256", "config", "arithmetic", "nll", "hub", "wheels")
TRAP = 'open("trap", "w")\nraise SystemExit\n'
text = st.text(max_size=20)
values = (
    text | st.integers() | st.booleans() | st.floats() | st.sampled_from([10**400, -1, 0, 2**63])
)
anything = st.recursive(
    st.none() | values | st.sampled_from(["trap.py", "./trap.py", "../x", "/etc/passwd", "os"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def every(count: int):
    quiet = list(HealthCheck)
    return settings(max_examples=count, deadline=None, suppress_health_check=quiet, database=None)


def both(test):
    """A test of SOME examples in `make test`, and of MANY in `make test-slow`."""

    @pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.slow)])
    def repeated(count, request):
        needed = {name: request.getfixturevalue(name) for name in test.needs}
        every(count)(given(**test.given)(lambda **drawn: test(**needed, **drawn)))()

    repeated.__doc__ = test.__doc__
    return repeated


def of(*needs: str, **drawn):
    """What a test needs: fixtures by name, and examples that are drawn."""

    def mark(test):
        test.needs, test.given = needs, drawn
        return both(test)

    return mark


def refusal(act, *kinds) -> str:
    """Why something is refused, in one line; empty where it is taken."""
    told = ""
    try:
        act()
    except kinds as error:
        told = str(error).strip()
    assert len(told) <= 1_500
    assert "\n" not in told
    return told


@contextmanager
def unchanged(home: Path):
    """That nothing below a folder comes, goes or changes, and no trap was run."""

    def all_of() -> dict[Path, bytes]:
        files = (path for path in home.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if "__pycache__" not in path.parts}

    before = all_of()
    yield
    assert all_of() == before


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder, with a file that leaves a trace where it is run."""
    (tmp_path / "trap.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@of("here", content=st.binary(max_size=200), suffix=st.sampled_from(["txt", "csv", "tsv", "jsonl"]))
def test_any_bytes_are_prompts_or_refused(here, content, suffix):
    file = here / f"prompts.{suffix}"
    file.write_bytes(content)
    told = refusal(lambda: texts_in(file), ValueError)
    assert not told or str(file) in told


def toml(content: dict) -> str:
    """A table as TOML, as well as strange values allow."""
    return "\n".join(
        f"{name} = {json.dumps(value) if isinstance(value, str) else str(value).lower()}"
        for name, value in content.items()
    )


@of("here", content=st.dictionaries(st.sampled_from(FIELDS), values, max_size=5)
    | st.text(max_size=60))  # fmt: skip
def test_any_card_is_read_or_refused(here, content):
    file = here / "card.toml"
    card = toml(content) if isinstance(content, dict) else content
    file.write_text(card, encoding="utf-8", errors="surrogatepass")
    with unchanged(here):
        refusal(lambda: find_card(str(file)), ModelError)


@of("here", "capsys", command=st.sampled_from(READ_ONLY), words=st.lists(text, max_size=4))
def test_any_words_are_a_command_or_refused(here, capsys, command, words):
    with unchanged(here):
        try:
            code = main([command, *words])
        except SystemExit as stop:  # argparse has shown its help
            code = stop.code
    told = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert "Traceback" not in told
    assert code != 2 or len(told.splitlines()) >= 1


RUN = st.dictionaries(
    st.sampled_from(["experiment", "model", "seed", "grid", "label", "preset"]) | text,
    values | st.sampled_from(["trap.py", "./trap.py", "addition_accuracy", "/etc/passwd", "os"]),
    max_size=4,
)


@of("here", runs=st.lists(RUN, max_size=3), more=st.text(max_size=20))
def test_any_suite_is_read_or_refused_and_runs_nothing(here, runs, more):
    file = here / "suite.toml"
    suite = "\n".join(
        f"[[run]]\n{toml({json.dumps(k): v for k, v in one.items()})}" for one in runs
    )
    file.write_text(f"{suite}\n{more}", encoding="utf-8", errors="surrogatepass")
    with unchanged(here):
        refusal(lambda: read_suite(file), UsageError, ModelError)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("finished")
    (home / "counting.py").write_text(COUNTING)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run(find("counting.py")())
    return home


@pytest.fixture
def stranger(finished, here) -> Path:
    """A run of someone else, in the current folder."""
    shutil.copytree(finished / "runs", here / "runs")
    return next(Path("runs/counting").iterdir())


KEYS = st.sampled_from(
    ["status", "experiment", "source", "fields", "figures", "tables", "files", "claims", "model",
     "notes", "started", "seconds", "label", "headline", "hash", "defaults", "peak_memory_bytes"]
)  # fmt: skip


@of("stranger", "here", changed=st.dictionaries(KEYS, anything, max_size=3))
def test_any_manifest_is_read_or_refused_and_leads_nowhere(stranger, here, changed):
    kept = (stranger / "manifest.json").read_bytes()
    told = json.loads(kept) | changed
    try:
        write_manifest(stranger, told)
    except ValueError:  # a number that JSON has no word for
        (stranger / "manifest.json").write_text(json.dumps(told))
    with unchanged(here / "runs" / "counting"):
        refusal(lambda: manifest_of(stranger), UsageError)
        assert not any("\n" in line for line in verify(stranger))
    refusal(lambda: redraw(stranger), UsageError, ModelError)
    write_gallery(Path("runs"))
    assert {path.name for path in here.iterdir()} == {"runs", "trap.py"}
    (stranger / "manifest.json").write_bytes(kept)


@of("stranger", at=st.integers(0, 10_000), put=st.binary(min_size=1, max_size=4))
def test_any_bytes_in_a_manifest_are_named(stranger, at, put):
    path = stranger / "manifest.json"
    kept = path.read_bytes()
    at %= len(kept)
    path.write_bytes(kept[:at] + put + kept[at + len(put) :])
    if path.read_bytes() != kept:
        (line, *_) = verify(stranger)
        assert "manifest.json" in line
    path.write_bytes(kept)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"), tiny("llama", **LLAMA))


CONFIG = st.sampled_from(
    [*LLAMA, "model_type", "auto_map", "vocab_size", "hidden_act", "rope_parameters", "head_dim",
     "eos_token_id", "architectures", "quantization_config", "transformers_weights", "layer_types",
     "attention_bias", "tie_word_embeddings", "rms_norm_eps"]
)  # fmt: skip
STRANGE = st.one_of(
    st.tuples(st.just("config.json"), st.dictionaries(CONFIG, anything, min_size=1, max_size=2)),
    st.tuples(
        st.sampled_from(
            [
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "generation_config.json",
                "model.safetensors",
            ]
        ),
        st.binary(max_size=60),
    ),
    st.tuples(
        st.sampled_from(["tokenizer_config.json", "generation_config.json"]),
        st.dictionaries(text | st.just("eos_token_id"), anything, max_size=2),
    ),
)


@of("folder", "here", strange=STRANGE)
def test_any_folder_of_a_model_is_loaded_or_refused(folder, here, strange):
    name, what = strange
    shutil.copytree(folder, here / "tiny", dirs_exist_ok=True)
    path = here / "tiny" / name
    if isinstance(what, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | what))
    else:
        path.write_bytes(what)
    with unchanged(here):
        refusal(lambda: load("./tiny"), ModelError)
    shutil.rmtree(here / "tiny")
