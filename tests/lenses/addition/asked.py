"""A language model made to add what is asked in one form, and nothing else."""

import re

from models import Model
from models.planted.places import planted_places
from models.text import tokenize


def adding_only(pattern: str) -> Model:
    """A language model made to add what is asked as `pattern` says, and nothing else, by hooks."""
    model, seen = planted_places(), {}
    digits, (after,) = tokenize(model, "0123456789")[-10:], tokenize(model, ".")
    model.embed.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))

    def overwrite(_module, _inputs, logits):
        for row, ids in enumerate(seen["tokens"].tolist()):
            for pos in range(len(ids)):
                asked = re.search(pattern, model.tokenizer.decode(ids[: pos + 1]))
                if asked is None:
                    continue
                answer, said = str(int(asked[1]) + int(asked[2])), asked[3]
                if said == answer:
                    logits[row, pos, after] = 1e3
                elif answer.startswith(said):
                    logits[row, pos, digits[int(answer[len(said)])]] = 1e3
        return logits

    model.unembed.register_forward_hook(overwrite)
    return model
