"""Text in which a token shows what it attends to."""

import pandas as pd

from viz import attention_patterns

ROWS = pd.DataFrame(
    [(0, head, query, key, 0.5 + 0.5 * (query == key == 0))
     for head in (0, 1) for query in range(2) for key in range(query + 1)],
    columns=["layer", "head", "query", "key", "attention"],
)  # fmt: skip


def test_by_token_the_text_can_be_pointed_at():
    drawn = attention_patterns(ROWS, ["<b>", " is"], caption="", by_token=True)
    assert drawn.widget.component == "AttentionPatterns"
    assert drawn.widget.props["tokens"] == ["<\u2060b>", "␣is"]
    assert drawn.widget.props["attention"] == [[[1.0, 0.0], [0.5, 0.5]]] * 2
    assert drawn.widget.props["headLabels"] == ["0", "1"]


def test_otherwise_heads_are_chosen():
    drawn = attention_patterns(ROWS, ["a", "b"], caption="")
    assert drawn.widget.component == "AttentionHeads"
