"""Short, safe pieces of what a provider sent, for messages that people read: no markup, no keys."""

from __future__ import annotations

import html
import re

__all__ = ["excerpt", "is_page", "short_text"]

_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[!?a-z]", re.IGNORECASE)
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(r"<(script|style)\b.*?(?:</\1>|$)|<[^>]*>", re.IGNORECASE | re.DOTALL)
_KEYS = re.compile(
    r"(\bbearer\s+|\bapi[ _-]?key[^:=\n]{0,20}[:=]\s*)(?=[^\s\"',]*[\d*])[^\s\"',]{6,}"  # named as one
    r"|\b(?:sk|pk|rk|gsk|csk|xai|hf|nvapi|fw|tgp|key|r8|AIza)[-_]?(?=[\w*-]*[\d*])[\w*-]{12,}"  # a maker's mark
    r"|\b(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{32,}\b",  # neither, but nothing else looks like it
    re.IGNORECASE,
)
_READ_AT_MOST = 4000


def short_text(text: str, *, limit: int = 300) -> str:
    """The text in one line of at most `limit` characters, with everything that looks like a key taken out."""
    line = " ".join(_KEYS.sub(lambda key: (key[1] or "") + "[key]", text[:_READ_AT_MOST]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def is_page(body: bytes) -> bool:
    """Whether a body is markup, as a proxy's pages are."""
    return _MARKUP.match(body) is not None


def excerpt(body: bytes, *, limit: int = 160) -> str:
    """What a body is, in a few words that fit after "the provider answered": `an HTML page: "Bad Gateway"`."""
    text = body[:_READ_AT_MOST].decode("utf-8-sig", "replace").strip()
    if not text:
        return "an empty body"
    if not is_page(body):
        return f'"{short_text(text, limit=limit)}"'
    titled = _TITLE.search(text)
    shown = short_text(html.unescape(_HIDDEN.sub(" ", titled[2] if titled else text)), limit=limit)
    return f'an HTML page: "{shown}"' if shown else "an HTML page"
