"""The page of every experiment in a browser: quiet, steady, small and accessible."""

import pytest

from experiments._runs.finding import find
from experiments._runs.registry import names
from experiments._runs.run import run
from models import load

MOST_BYTES = 4 * 2**20


@pytest.fixture(scope="module", params=names())
def page(request, tmp_path_factory):
    kind = find(request.param)
    fields = dict(kind.quick) | ({"model": "adder_6d_1l"} if kind.needs_model else {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        folder = run(kind(**fields), loader=load).resolve()
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
