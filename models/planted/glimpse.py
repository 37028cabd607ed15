"""A glimpse network whose weights are written by code: it looks where the cue says, and reads."""

import torch

from models.train.glimpse import Glimpse
from prompts.cued import COLOURS, LETTERS

SURE = 40.0
"""Score of the cued slot; all others have 0."""
LOUD = 10.0
"""Logit of a letter that is seen alone."""


@torch.no_grad()
def planted_glimpse() -> Glimpse:
    """Colours and letters are axes of their own; the cue is its colour, the readout the letter."""
    width, colours = len(COLOURS) + len(LETTERS), len(COLOURS)
    net = Glimpse(width, True, torch.Generator())
    eye = torch.eye(width)
    net.colour.copy_(eye[:colours])
    net.letter.copy_(eye[colours:])
    net.cue.copy_(SURE * width**0.5 * eye[:colours])
    net.readout.zero_()
    net.readout[colours:width] = LOUD * torch.eye(len(LETTERS))
    return net
