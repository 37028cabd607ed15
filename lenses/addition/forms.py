"""How a model is asked for a sum: an adder in its own form, a language model in the best of many.

The form of a language model is chosen on sums that are neither shown as examples nor measured.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from lenses.kept import PerPrompt
from lenses.statistics.intervals import FEWEST, bootstrap, wilson
from lenses.texts import likeliest
from models import Model, ModelError
from models.text import TextNote, TooLongError, refuse_too_long, token_strings, tokenize
from prompts.additions import Addition, AdditionFormat, Sums
from prompts.forms import CHAT, Form, plain_forms

CHOSEN_ON = 24
"""Sums that each form is tried on before anything is measured."""
TRIED = 20
"""Sums whose tokens are compared with those of a form's layout."""
DRAWN = 8
"""Sums drawn for each that is needed, since small numbers come twice."""
FORM_COLUMNS = ["form", "sample", "prompt", "n", "correct", "accuracy", "low", "high", "chosen"]

Stream = Callable[..., Iterator[Sequence[Form]]]
"""`Experiment.stream`: the items in batches, with progress and exact resume."""


def best_form(
    model: Model, seed: int, places: int = 2, examples: int = 1, stream: Stream | None = None
) -> Form:
    """The form in which a language model adds two numbers of `places` digits best.

    Tried on CHOSEN_ON sums; see `unused` for those that are left to be measured. With the `stream`
    of an experiment the trial is kept with its run. Raises ModelError where no form can be written
    with each digit as a token of its own.
    """
    forms = forms_of(model, places, seed, examples)
    return chosen_form(model, forms, places, seed, examples, stream)[0]


def chosen_form(
    model: Model,
    forms: Sequence[Form],
    places: int,
    seed: int,
    examples: int,
    stream: Stream | None = None,
) -> tuple[Form, pd.DataFrame]:
    """The best of some forms, and how many of the sums it was chosen on are right in each.

    Says in a TextNote which one it is.
    """
    _, tried = sums_apart(places, seed, examples)
    right = right_by_form(model, forms, tried, stream, "choosing a form")
    chosen = forms[int(right.mean(axis=1).argmax())]
    told = f"Sums are asked for in the form {chosen.name!r}: none of {len(forms)} was better on "
    warnings.warn(f"{told}{len(tried)} other sums", TextNote, stacklevel=2)
    return chosen, form_rows(forms, chosen, right, "choice")


def addition_format(
    model: Model,
    places: int | None,
    examples: int = 1,
    seed: int = 0,
    stream: Stream | None = None,
) -> AdditionFormat:
    """How a model writes additions: as its card says, or a language model in its best form.

    `places` may be None: an adder has its own number of digits, a language model is given 2.
    Raises ModelError for digits that an adder has not.
    """
    own = model.card.arithmetic
    if own is None:
        form = best_form(model, seed, places or 2, examples, stream)
        return style_of(model, form, places or 2)
    if places is None or places == own.digits:
        return own
    if own.pad or places > own.digits:
        up_to = "" if own.pad else "up to "
        raise ModelError(
            f"places: {model.card.name} adds numbers of {up_to}{own.digits} digits, not {places}"
        )
    return own.model_copy(update={"digits": places})


def forms_of(model: Model, places: int, seed: int, examples: int = 1) -> list[Form]:
    """Every form in which a language model can be asked, the most usual first.

    Raises ModelError where its tokenizer writes none with each digit as a token of its own, and
    where one is longer than the model reads: a form is not left out for want of room.
    """
    shown, _ = sums_apart(places, seed, examples)
    found, refused = [], []
    for form in [*plain_forms(shown), *_chat(model)]:
        try:
            style_of(model, form, places)
        except TooLongError:
            raise
        except ModelError as error:
            refused.append(error)
        else:
            found.append(form)
    if not found:
        raise refused[0]
    return found


def _chat(model: Model) -> list[Form]:
    """The question as a turn of a conversation, where the tokenizer has a template for one."""
    template = getattr(model.tokenizer, "apply_chat_template", None)
    if not getattr(model.tokenizer, "chat_template", None):
        return []
    text = template([{"role": "user", "content": CHAT}], tokenize=False, add_generation_prompt=True)
    opening, after = text.removeprefix(model.tokenizer.bos_token or "").split(CHAT)
    front, rest = CHAT.split("{a}")
    between, end = rest.split("{b}")
    return [Form("chat", opening, front, between, end + after)]


def right_by_form(
    model: Model, forms: Sequence[Form], sums: Sums, stream: Stream | None, label: str
) -> Bool[np.ndarray, "form n"]:
    """Which sums are wholly right in each form, each digit after the right ones before it."""
    kept = PerPrompt()
    for batch in stream(forms, kept, label, 1) if stream else ([form] for form in forms):
        for form in batch:
            kept.update(right=right_in(model, style_of(model, form, sums.places), sums)[None])
    return kept["right"]


def right_in(model: Model, style: AdditionFormat, sums: Sums) -> Bool[np.ndarray, "n"]:
    """Which sums are wholly right, each digit after the right ones before it."""
    written = style.write(sums)
    at = np.maximum(written.at, 1)
    said = likeliest(model, written.tokens, at - 1)
    right = said == np.take_along_axis(written.tokens, at, axis=1)
    return (right | ~written.written).all(axis=1)


def form_rows(
    forms: Sequence[Form], chosen: Form, right: Bool[np.ndarray, "form n"], sample: str
) -> pd.DataFrame:
    """How many sums of a sample are right in each form, with Wilson intervals."""
    correct, n = right.sum(axis=1), right.shape[1]
    low, high = wilson(correct, np.full(len(forms), n))
    asked = [form.prompt(12, 34) for form in forms]
    table = {"form": [form.name for form in forms], "sample": sample, "prompt": asked, "n": n}
    table |= {"correct": correct, "accuracy": correct / n, "low": low, "high": high}
    return pd.DataFrame(table | {"chosen": [form == chosen for form in forms]})[FORM_COLUMNS]


def asked_in_forms(
    model: Model, places: int, count: int, seed: int, examples: int, stream: Stream
) -> tuple[AdditionFormat, dict[str, pd.DataFrame]]:
    """How a language model is asked, and how many of at most `count` sums are right in each form.

    The tables are `forms`, on the sums that chose the form and on others, and `form_lead`, by how
    much the chosen form is ahead of the bare one: empty with too few sums for an interval.
    Raises ModelError as `forms_of` does.
    """
    forms = forms_of(model, places, seed, examples)
    chosen, tried = chosen_form(model, forms, places, seed, examples, stream)
    sums = Addition(places, count, seed, padded=False).sums
    sums = sums[unused(sums, seed, examples)]
    right = right_by_form(model, forms, sums, stream, "every form")
    bare = [form.name for form in forms].index("bare")
    lead = right[forms.index(chosen)].astype(float) - right[bare]
    found = vars(bootstrap(lead[:, None], seed).within(-1, 1)) if len(lead) >= FEWEST else {}
    measured = form_rows(forms, chosen, right, "measured")
    tables = {
        "forms": pd.concat([tried, measured], ignore_index=True),
        "form_lead": pd.DataFrame(found),
    }
    return style_of(model, chosen, places), tables


def sums_apart(places: int, seed: int, examples: int = 1) -> tuple[Sums, Sums]:
    """Sums that are shown as examples, and those on which a form is chosen, all of them unlike."""
    drawn = Addition(places, DRAWN * (examples + CHOSEN_ON), seed + 1, padded=False).sums
    first = np.sort(np.unique(_pairs(drawn), return_index=True)[1])
    return drawn[first[:examples]], drawn[first[examples : examples + CHOSEN_ON]]


def unused(sums: Sums, seed: int, examples: int = 1) -> Bool[np.ndarray, "n"]:
    """Which additions were neither shown as examples nor used to choose a form."""
    used = [_pairs(part) for part in sums_apart(sums.places, seed, examples)]
    return ~np.isin(_pairs(sums), np.concatenate(used))


def questions(
    model: Model, places: int, count: int, seed: int, stream: Stream | None = None
) -> list[tuple[str, str]]:
    """At most `count` sums and their answers as text, in the best form; none chose that form."""
    form = best_form(model, seed, places, stream=stream)
    sums = Addition(places, count, seed, padded=False).sums
    sums = sums[unused(sums, seed)]
    return [(form.prompt(a, b), str(a + b)) for a, b in zip(sums.a, sums.b, strict=True)]


def _pairs(sums: Sums) -> np.ndarray:
    """A number for each pair of addends."""
    pairs = zip(sums.a.tolist(), sums.b.tolist(), strict=True)
    return np.array([a * 10**sums.places + b for a, b in pairs], dtype=object)


def style_of(model: Model, form: Form, places: int) -> AdditionFormat:
    """A form as tokens, in which numbers of up to `places` digits can be written.

    Raises ModelError where the tokenizer does not write each digit as one token of its own, or
    joins a sign with what stands beside it.
    """
    trial = Addition(places, TRIED, seed=0, padded=False).sums
    digits = tokenize(model, "0123456789")[-10:]
    if len(set(digits)) < 10:
        raise _no_single_digits(model, form)
    lines = [form.solved(a, b) for a, b in zip(trial.a, trial.b, strict=True)]
    first = [int(number[0]) for number in (trial.a, trial.b, trial.answer)]
    items = _layout(tokenize(model, lines[0]), digits, [len(str(number)) for number in first])
    vocabulary = {str(digit): token for digit, token in enumerate(digits)}
    signs = [item for item in items if isinstance(item, int)]
    named = {
        token: f"#{name}" for token, name in zip(signs, token_strings(model, signs), strict=True)
    }
    layout = tuple(named.get(item, item) for item in items)
    vocabulary |= {name: token for token, name in named.items()}
    style = AdditionFormat(digits=places, pad=False, layout=layout, vocabulary=vocabulary)
    nines = np.array([10**places - 1])
    length = style.write(Sums(nines, nines, places)).tokens.shape[1]
    refuse_too_long(model, length, "examples: a question with solved ones in front (--examples)")
    for row, line in enumerate(lines):
        if tokenize(model, line) != style.write(trial[row : row + 1]).tokens[0].tolist():
            raise _no_single_digits(model, form)
    return style


def _no_single_digits(model: Model, form: Form) -> ModelError:
    return ModelError(
        f"{model.card.name}: its tokenizer does not write every digit as a token of its own "
        f"(in the form {form.name!r}); choose a model that does (smollm2, gemma3_270m_q4, an adder)"
    )


def _layout(ids: list[int], digits: list[int], widths: Sequence[int]) -> list[str | int]:
    """The items of an addition's layout: its last three numbers as a, b, c, the rest as ids."""
    items: list[str | int] = []
    for name, width in zip("cba", reversed(widths), strict=True):
        items.append(name)
        ids = ids[:-width]
        while ids and ids[-1] not in digits and name != "a":
            items.append(ids.pop())
    return [*ids, *reversed(items)]
