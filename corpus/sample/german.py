"""German noun phrases by construction: a noun knows its gender and its four cases, adjectives follow both.

A noun is written `word:gender[:genitive[:dative[:accusative]]]` with gender m, f, n or p (plural); without a gender it
stands without an article (Paris, Ibuprofen); `word=nominative/accusative/dative/genitive` spells the phrases out.
"""

from __future__ import annotations

from dataclasses import dataclass

CASES = ("nom", "acc", "dat", "gen")
_DEFINITE = {
    "m": ("der", "den", "dem", "des"),
    "f": ("die", "die", "der", "der"),
    "n": ("das", "das", "dem", "des"),
    "p": ("die", "die", "den", "der"),
}
_INDEFINITE = {
    "m": ("ein", "einen", "einem", "eines"),
    "f": ("eine", "eine", "einer", "einer"),
    "n": ("ein", "ein", "einem", "eines"),
}
# Endings of adjectives after a definite (weak) and an indefinite (mixed) article, by gender and case.
_WEAK = {"m": ("e", "en", "en", "en"), "f": ("e", "e", "en", "en"), "n": ("e", "e", "en", "en"), "p": ("en",) * 4}
_MIXED = {"m": ("er", "en", "en", "en"), "f": ("e", "e", "en", "en"), "n": ("es", "es", "en", "en")}


def capital(phrase: str) -> str:
    """The phrase with its first letter in upper case."""
    return phrase[:1].upper() + phrase[1:]


@dataclass(frozen=True)
class Noun:
    """A noun; `words` are its bare forms by case, `phrases` those with the definite article (or none)."""

    bare: str
    gender: str
    words: tuple[str, str, str, str]
    phrases: tuple[str, str, str, str]

    def definite(self, case: str, adjective: str = "") -> str:
        """The phrase with the definite article and, if given, an adjective stem."""
        at = CASES.index(case)
        if not adjective:
            return self.phrases[at]
        return f"{_DEFINITE[self.gender][at]} {adjective}{_WEAK[self.gender][at]} {self.words[at]}"

    def indefinite(self, case: str, adjective: str = "") -> str:
        """The phrase with the indefinite article and, if given, an adjective stem."""
        at = CASES.index(case)
        if self.gender not in _INDEFINITE:
            return self.words[at]
        middle = f" {adjective}{_MIXED[self.gender][at]} " if adjective else " "
        return f"{_INDEFINITE[self.gender][at]}{middle}{self.words[at]}"

    def form(self, name: str) -> str:
        """A named form: bare, nom, acc, dat, gen, ein (indefinite nominative), von (genitive or "von")."""
        if name == "bare":
            return self.bare
        if name == "ein":
            return self.indefinite("nom")
        if name == "von":
            return self.definite("gen") if self.gender or self.phrases[0] != self.bare else f"von {self.bare}"
        return self.definite(name)


def parse_noun(spec: str) -> Noun:
    """Read a noun in the notation of this module."""
    if "=" in spec:
        bare, _, forms = spec.partition("=")
        nom, acc, dat, gen = forms.split("/")
        return Noun(bare, "", (bare, bare, bare, bare), (nom, acc, dat, gen))
    bare, *rest = spec.split(":")
    if not rest:
        return Noun(bare, "", (bare, bare, bare, bare), (bare, bare, bare, bare))
    gender = rest[0]
    default = (bare + ("es" if bare[-1] in "sßxz" else "s")) if gender in "mn" else bare
    gen, dat, acc = ([*rest[1:], "", "", ""])[:3]
    words = (bare, acc or bare, dat or bare, gen or default)
    phrases = tuple(f"{article} {word}" for article, word in zip(_DEFINITE[gender], words, strict=True))
    return Noun(bare, gender, words, (phrases[0], phrases[1], phrases[2], phrases[3]))
