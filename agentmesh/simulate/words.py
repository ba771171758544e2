"""Short texts for simulated replies: a small vocabulary mixed with words of the prompt, so that drafts differ."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cache

__all__ = ["Writer", "prompt_words"]

_WORD = re.compile(r"[a-z][a-z-]{3,17}")
_LOOKED_AT = 600  # characters of a prompt from which words are taken
_FORMS = 400
_PLAIN = """
    about above after again against answer because become before being between could doing during every first from
    given goal great having improve judge least might other please prompt proposal propose question reply review second
    shall should since still their there these thing think those through under unlike until using where whether which
    while whose without would write yours candidate candidates obvious compare better criteria score simulated
    also been does each from give have into like make many more most much only over same some such than that them then
    they this very were what when will with your ours here just must need said says take tell want well able used uses
"""
_PLAIN_WORDS = frozenset(_PLAIN.split())

_NOUNS = (
    "gradient", "threshold", "reservoir", "feedback loop", "membrane", "signal", "bottleneck", "trade-off", "lineage",
    "interface", "checkpoint", "residue", "boundary layer", "clock", "network", "metabolite", "switch", "memory effect",
    "subpopulation", "energy budget", "transport route", "binding site", "growth phase", "stress response",
)  # fmt: skip
_ADJECTIVES = (
    "delayed", "local", "reversible", "heritable", "noisy", "rate-limited", "collective", "dormant", "uneven",
    "hidden", "costly", "transient", "self-limiting", "inherited", "patchy", "tunable", "slow", "rare",
)  # fmt: skip
_VERBS = (
    "limits", "precedes", "amplifies", "buffers", "replaces", "predicts", "delays", "stabilises", "depends on",
    "competes with", "masks", "sets the pace of", "outlasts", "selects for",
)  # fmt: skip
_MEASURES = (
    "a dose series", "single-cell imaging", "a knock-out", "a blinded replicate", "a pulse-chase experiment",
    "a mark-and-recapture count", "a null model", "a crossover trial", "time-resolved sequencing", "a field transplant",
)  # fmt: skip


def prompt_words(text: str) -> list[str]:
    """Telling words of a prompt, each once, in its order."""
    words = dict.fromkeys(_WORD.findall(text[:_LOOKED_AT].lower()))
    return [word for word in words if word not in _PLAIN_WORDS]


@cache
def _forms() -> tuple[str, ...]:
    """Sentences with a gap for a topic, made once: to fill one takes a microsecond, and a reply has several."""
    rng = random.Random(20)
    forms = []
    for number in range(_FORMS):
        subject = f"a {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}"
        verb, measure, noun = rng.choice(_VERBS), rng.choice(_MEASURES), rng.choice(_NOUNS)
        text = (
            f"{subject} {verb} %s once the {noun} is exhausted.",
            f"the %s {verb} {subject}, which {measure} would show.",
            f"if %s {verb} {subject}, {measure} could refute it.",
            f"{measure} separates %s from {subject}.",
        )[number % 4]
        forms.append(text[0].upper() + text[1:])
    return tuple(forms)


class Writer:
    """Writes texts from one generator: the same generator and words give the same texts."""

    def __init__(self, rng: random.Random, words: Sequence[str]) -> None:
        self.rng = rng
        self._words = words or _NOUNS

    def topic(self) -> str:
        """A word of the prompt, or one of the vocabulary where the prompt has none."""
        return self._pick(self._words)

    def title(self) -> str:
        """Three or four words, without a full stop."""
        return f"{self._pick(_ADJECTIVES).capitalize()} {self.topic()} {self._pick(_NOUNS)}"

    def sentence(self) -> str:
        """One sentence of some ten words."""
        return self._pick(_forms()) % self._pick(self._words)

    def paragraph(self, characters: int) -> str:
        """Sentences of about so many characters together, at least one."""
        sentences = [self.sentence()]
        length = len(sentences[0])
        while length < characters:
            sentences.append(self.sentence())
            length += len(sentences[-1]) + 1
        return " ".join(sentences)

    def _pick(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.random() * len(choices))]  # three times as fast as rng.choice
