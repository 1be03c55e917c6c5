"""Colours of labels and of errors, the same in every picture nnlite draws: reports and previews.

Six colours, then lighter and darker ones of the same hues. The first four begin with Paul Tol's "vibrant" scheme (SRON
technical note SRON/EPS/TN/09-002, 2021); blue is lighter here, so that it stands out from dark images as well as from a
white page. The last two are as far from these as can be, also to eyes without one kind of cone.
"""

from __future__ import annotations

Colour = tuple[int, int, int]

HUES: tuple[Colour, ...] = (
    (238, 119, 51),  # orange
    (30, 144, 220),  # blue
    (230, 50, 125),  # magenta
    (0, 153, 136),  # teal
    (120, 90, 45),  # brown
    (45, 75, 225),  # indigo
)
SHADES = (0.0, 0.45, -0.35)  # towards white, towards black: 18 colours, which then begin again

# what a prediction gets wrong: brighter than labels, and drawn on dark images only
MISSED: Colour = (250, 225, 60)  # foreground of the truth that was predicted as background
EXTRA: Colour = (60, 200, 240)  # background of the truth that was predicted as foreground
CONFUSED: Colour = (170, 50, 200)  # one label taken for another


def label_colour(index: int) -> Colour:
    """The colour (red, green, blue) of a label by its index; 0 is the background, which has none.

    >>> label_colour(1), label_colour(7) != label_colour(1), label_colour(19) == label_colour(1)
    ((238, 119, 51), True, True)
    """
    if index < 1:
        raise ValueError(f"label {index} has no colour: foreground labels count from 1")
    shade, hue = divmod(index - 1, len(HUES))
    amount = SHADES[shade % len(SHADES)]
    goal = 255 if amount > 0 else 0
    red, green, blue = (round(part + (goal - part) * abs(amount)) for part in HUES[hue])
    return red, green, blue


def hexadecimal(colour: Colour) -> str:
    """A colour as pages write it.

    >>> hexadecimal((30, 144, 220))
    '#1e90dc'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)
