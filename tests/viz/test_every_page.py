"""The page of every experiment in a browser: quiet, steady, small and accessible."""

import time

import pytest

from experiments._runs.finding import find
from experiments._runs.registry import names
from experiments._runs.run import run

MOST_BYTES = 4 * 2**20


@pytest.fixture(scope="module", params=names())
def page(request, tmp_path_factory):
    kind = find(request.param)
    fields = dict(kind.quick) | ({"model": "adder_6d_1l"} if kind.needs_model else {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        folder = run(kind(**fields)).resolve()
    return folder / "index.html"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_an_experiment(tab, page, scheme):
    assert page.stat().st_size < MOST_BYTES
    shown = tab(1280, color_scheme=scheme, bypass_csp=True).open(page).wheel()
    assert shown.shifted() < 0.1
    shown.scroll()
    assert shown.complaints() == []
    shown.page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    shown.page.wait_for_timeout(500)
    assert shown.serious() == []


FORTY = (
    "In the winter of that year the river froze so hard that people walked across it from one bank "
    "to the other, and a man from the village sold hot soup on the ice to everyone who crossed the"
)
"""41 tokens of smollm2, which has 30 layers."""
SWITCHES = """() => [...document.querySelectorAll(".flow select")].flatMap((select, number) => {
  select.dataset.number = number;
  return [...select.options].map((option) => [`[data-number="${number}"]`, option.value]);
})"""
"""Every option of every choice above the chart, and where the choice is."""
CLICKED = [(30, 39), (20, 10), (11, 38), (5, 5), (30, 40)]
REDRAWN = """async ([at, act, value]) => {
  const drawn = () => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
  await drawn();
  const start = performance.now(), one = document.querySelector(at);
  if (act === "change") one.value = value;
  one.dispatchEvent(new Event(act, { bubbles: true }));
  await drawn();
  return performance.now() - start;
}"""


@pytest.mark.real
@pytest.mark.slow
def test_a_flow_of_40_tokens_and_30_layers_opens_and_redraws_soon(tab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = run(find("information_flow")(prompts=(FORTY,))).resolve() / "index.html"
    start, shown = time.perf_counter(), tab(1280, bypass_csp=True).open(page)
    shown.page.locator(".flow svg .cell").first.wait_for(timeout=20_000)
    assert time.perf_counter() - start < 3
    images = page.parent.glob("figures/*/figure*.svg")
    assert page.stat().st_size + sum(image.stat().st_size for image in images) < 12e6
    acts = [(at, "change", value) for at, value in shown.page.evaluate(SWITCHES)]
    acts += [(f'.flow [data-cell="{depth} {pos}"]', "click", "") for depth, pos in CLICKED]
    assert len(acts) > 15
    taken = {act: shown.page.evaluate(REDRAWN, act) for act in acts}
    assert max(taken.values()) < 1000, max(taken, key=taken.get)
