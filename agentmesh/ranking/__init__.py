"""Tournaments: who is judged against whom next, and what the verdicts say about everybody's strength.

Nothing here waits, reads a clock or calls a model. numpy is imported by the first fit, not by this package.
"""

from .tournament import Match, Stop, StoppedBy, Tournament, TournamentStatistics
from .verdict import Verdict, judge_prompt, score_of

__all__ = [
    "Match",
    "Stop",
    "StoppedBy",
    "Tournament",
    "TournamentStatistics",
    "Verdict",
    "judge_prompt",
    "score_of",
]
