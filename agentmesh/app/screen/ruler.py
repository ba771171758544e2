"""Text measured in terminal cells: cut, padded, joined, and bars of eighth blocks."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from ..wording import more

__all__ = ["bar", "cut", "joined", "pad"]

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int, *, blocks: bool = True) -> str:
    """A bar of `width` cells, filled to `share` (0 to 1), in steps of an eighth of a cell."""
    share = min(1.0, max(0.0, share))
    if not blocks:
        return ("#" * int(share * width)).ljust(width)
    full, rest = divmod(int(share * width * 8), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, with an ellipsis where something was lost."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…" if width > 0 else ""


def pad(text: str, width: int) -> str:
    """The text in at least `width` cells; a longer one is cut if `width` is above 0."""
    if width <= 0:
        return text
    shown = cut(text, width)
    return shown + " " * (width - cell_len(shown))


def joined(start: str, words: Sequence[str], *, width: int, gap: str = "   ") -> str:
    """`start` and as many of the words as fit in `width` cells, then how many more there are."""
    line = start
    for place, word in enumerate(words):
        rest = len(words) - place
        text = (gap if place else "") + word
        tail = 0 if rest == 1 else len(gap + more(rest - 1))
        if cell_len(line + text) + tail > width:
            return cut(line + (gap if place else "") + more(rest), width)
        line += text
    return line
