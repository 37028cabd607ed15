"""Columns that mean the same in every experiment: words for an axis, a meaning, a kind of value."""

from typing import Literal, NamedTuple

Kind = Literal["whole", "number", "text", "yes or no"]


class Term(NamedTuple):
    """A column name explained once for all tables, figures and pages."""

    words: str
    """What an axis or a heading says, with the unit."""
    about: str
    """What a value of the column is, a phrase for the data dictionary."""
    kind: Kind


GLOSSARY = {
    "accuracy": Term("accuracy (share right)", "share of cases that are right", "number"),
    "attention": Term("attention (share of a row)", "share of a row of attention", "number"),
    "attention_entropy": Term(
        "attention entropy (nats)", "entropy of a row of attention, in nats", "number"
    ),
    "base_change": Term(
        "digit changes with its own sum",
        "share of pairs with another sum in this column in which the digit changes",
        "number",
    ),
    "base_flip": Term(
        "digit follows its own sum",
        "share of pairs with another sum in this column in which the digit becomes the source's",
        "number",
    ),
    "carry": Term("carry coming in (0 or 1)", "carry that comes into the column: 0 or 1", "whole"),
    "carry_flip": Term(
        "digit follows the carry",
        "share of pairs with the carry toggled in which the digit becomes the source's",
        "number",
    ),
    "carry_null": Term(
        "digit changes without a carry",
        "share of pairs with the same carry in which the digit changes all the same",
        "number",
    ),
    "closeness": Term(
        "closeness (1 − relative distance)",
        "1 less the distance to the sum of the layer's heads, over that sum's length",
        "number",
    ),
    "correct": Term("right (count)", "how many of n are right", "whole"),
    "cosine": Term("cosine with the heads’ sum", "cosine with the heads' sum", "number"),
    "depth": Term("layers passed", "layers that were passed; 0 is the embedding", "number"),
    "digit": Term("digit", "a digit, 0 to 9", "whole"),
    "draw": Term("draw", "number of the random draw, from 0", "whole"),
    "estimate": Term("estimate", "the estimate", "number"),
    "even": Term("even share", "what attention spread evenly would give", "number"),
    "first_token": Term(
        "first token counted",
        "whether each text's first token, the usual sink, counts",
        "yes or no",
    ),
    "generated_tokens": Term(
        "generated tokens", "number of tokens that the model added to the text", "whole"
    ),
    "given_tokens": Term("given tokens", "number of tokens that the model was given", "whole"),
    "head": Term("head", "number of the attention head in its layer, from 0", "whole"),
    "high": Term("upper end", "upper end of the 95 % interval", "number"),
    "key": Term("attended token (pos)", "pos of the token that is attended to", "whole"),
    "l1_proximity": Term(
        "L1 proximity (share)",
        "how much nearer, in L1, the head brings the others to their sum; shares of a layer",
        "number",
    ),
    "l2_norm": Term(
        "L2 norm (units of the residual stream)", "length of the vector (L2 norm)", "number"
    ),
    "layer": Term("layer", "number of the layer, from 0", "number"),
    "log_probability": Term("log probability", "its log-probability, in nats", "number"),
    "low": Term("lower end", "lower end of the 95 % interval", "number"),
    "n": Term("cases", "number of cases that the estimate rests on", "whole"),
    "nines_flip": Term(
        "digit follows a carry over nines",
        "share of pairs whose carry crosses nines in which the digit becomes the source's",
        "number",
    ),
    "nines_null": Term(
        "digit changes without a carry over nines",
        "the same share in pairs with nines but without another carry",
        "number",
    ),
    "norm_share": Term(
        "share of the lengths", "the head's length over the sum of lengths in its layer", "number"
    ),
    "output_error": Term(
        "error of the sum (relative)",
        "largest relative difference between the sum of the parts and what attention writes",
        "number",
    ),
    "p": Term("p", "p-value, before correction for the number of tests", "number"),
    "p_any": Term(
        "p (largest of all)", "p-value against the largest of all rows by chance (max-T)", "number"
    ),
    "phase": Term("phase", "`prompt` for given tokens, `generated` for the model's own", "text"),
    "place": Term("decimal place (0 = units)", "decimal place, 0 = units", "whole"),
    "pos": Term("position (tokens)", "position of the token in the text, from 0", "whole"),
    "projection_share": Term(
        "share of the output (sums to 1)",
        "signed share of the heads' sum: the heads of a layer sum to 1",
        "number",
    ),
    "prompt": Term("prompt", "number of the prompt, from 0", "whole"),
    "q": Term("q", "p-value corrected over the table (Benjamini and Hochberg 1995)", "number"),
    "query": Term("attending token (pos)", "pos of the token that attends", "whole"),
    "read_place": Term(
        "decimal place that is read", "decimal place of the answer digit that is read", "whole"
    ),
    "run": Term(
        "run of nines below (columns)",
        "number of consecutive columns just below whose digits sum to nine",
        "whole",
    ),
    "seconds": Term("time (seconds)", "seconds", "number"),
    "seed": Term("seed", "seed of the training: of its first weights and its cases", "whole"),
    "share": Term("share", "share of the whole", "number"),
    "skipped": Term("skipped", "why it was not read; empty if it was", "text"),
    "token": Term("token", "the token as text", "text"),
    "token_id": Term("token id", "number of the token in the vocabulary", "whole"),
    "weights": Term(
        "weights", "`own` for the model's own weights, `random i` for its random twins", "text"
    ),
    "without_carries": Term(
        "right without carries",
        "share of the questions that adding without carries would answer right",
        "number",
    ),
    "word": Term("word", "the word", "text"),
}
"""By column name. What only one experiment has is explained in its own tables."""


def axis_name(column: str) -> str:
    """The words, with the unit, that an axis or a heading shows for a column."""
    return GLOSSARY[column].words if column in GLOSSARY else column.replace("_", " ")
