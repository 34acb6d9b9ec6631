"""How far two words are apart, and which ones that there are somebody may have meant."""

from collections.abc import Iterable

MISTYPED_FROM = 3
"""The shortest word that is taken for mistyped; from twice this length on two mistakes are forgiven."""
LONGEST = 40
MOST_MISTYPED = 3


def distance(one: str, other: str, most: int) -> int:
    """Insertions, deletions, replacements and swaps of neighbours between two words; `most` + 1 where it is more.

    The optimal string alignment distance (restricted Damerau-Levenshtein), which is also what a fuzzy query of
    the index goes by.
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    older: list[int] = []
    above = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        row = [i]
        for j, right in enumerate(other, 1):
            best = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                best = min(best, older[j - 2] + 1)
            row.append(best)
        older, above = above, row
    return min(above[-1], most + 1)


def forgiven(word: str) -> tuple[int, ...]:
    """How many mistakes to look for, one after the other; none for a word that may be anything."""
    if not MISTYPED_FROM <= len(word) <= LONGEST:
        return ()
    return (1, 2) if len(word) >= 2 * MISTYPED_FROM else (1,)


def nearest(word: str, present: Iterable[tuple[str, int]], most: int) -> str | None:
    """The word next to `word` of those `present` (each with how many clips have it), the more frequent of equals."""
    graded = [
        (apart, -clips, other) for other, clips in present if (apart := distance(word, other, most)) <= most
    ]
    return min(graded)[2] if graded else None
