"""Pages that a quality filter should drop, and the boilerplate around real pages. No digits that look like data."""

from __future__ import annotations

from collections.abc import Callable

from corpus.sample.draw import Draw
from corpus.sample.lexicon import words

_SPAM = (
    "billig", "kaufen", "online", "Angebot", "günstig", "Gutschein", "Rabatt", "Schuhe", "Uhren", "Handy", "Kredit",
    "sofort", "gratis", "Casino", "Bonus", "Versand", "Sale", "Top", "Preis", "Vergleich", "Deal", "Shop", "Marke",
)  # fmt: skip
_LOREM = (
    "lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do", "eiusmod", "tempor",
    "incididunt", "ut", "labore", "et", "dolore", "magna", "aliqua", "enim", "ad", "minim", "veniam", "quis",
    "exercitation", "ullamco", "laboris", "nisi", "aliquip", "ex", "ea", "commodo", "consequat", "duis", "aute",
)  # fmt: skip
_SYMBOLS = ("***", "###", "|||", "~~", "<<<", ">>>", "§§", "%%", "&&", "++", "==", "{}", "[]", "//", "^^", "$$", "@@")
_MENU = (
    "Startseite", "Über uns", "Aktuelles", "Termine", "Galerie", "Kontakt", "Impressum", "Datenschutz", "Anmelden",
    "Suche", "Archiv", "Links", "Gästebuch", "Anfahrt", "Presse", "Sitemap", "Newsletter", "Mitglied werden", "Forum",
)  # fmt: skip
_COOKIES = (
    "Diese Webseite verwendet Cookies. Mit der Nutzung stimmen Sie dem zu.",
    "Wir nutzen Cookies, um die Seite zu verbessern. Alle akzeptieren oder Einstellungen ändern.",
    "Cookies helfen uns bei der Bereitstellung der Inhalte. Mehr erfahren.",
    "Bitte wählen Sie Ihre Einstellungen zum Datenschutz. Nur notwendige Cookies zulassen.",
)
_IDENTIFIERS = ("item", "count", "value", "index", "result", "node", "buffer", "total", "name", "flag", "size", "key")


def menu_line(draw: Draw) -> str:
    """A navigation bar."""
    entries = draw.shuffled(_MENU)[: draw.between(4, 8)]
    return draw.pick((" | ", " » ", " · ")).join(entries)


def footer_line(draw: Draw) -> str:
    """A cookie notice or an imprint line."""
    if draw.chance(0.5):
        return draw.pick(_COOKIES)
    lists = words()
    year, town, name = draw.pick(lists["jahr"]), draw.pick(lists["stadt"]), draw.pick(lists["name"])
    return draw.pick(
        (
            f"© {year} {name}, {town}. Alle Rechte vorbehalten.",
            f"Verantwortlich im Sinne des Presserechts: {name}, {town}",
            f"Impressum: {name}, {town}. Stand {year}.",
        )
    )


def _spam(draw: Draw) -> str:
    town = draw.pick(words()["stadt"])
    return " ".join(draw.pick((*_SPAM, town, town, town)) for _ in range(draw.between(80, 300)))


def _repeated(draw: Draw) -> str:
    line = " ".join(draw.pick(_SPAM) for _ in range(6)) + "!"
    return "\n".join(line for _ in range(draw.between(12, 50)))


def _symbols(draw: Draw) -> str:
    return " ".join(draw.pick(_SYMBOLS) if draw.chance(0.85) else draw.pick(_SPAM) for _ in range(draw.between(60, 200)))


def _short(draw: Draw) -> str:
    return " ".join(draw.pick(_SPAM) for _ in range(draw.between(1, 8)))


def _capitals(draw: Draw) -> str:
    return "\n".join(draw.pick((*_SPAM, *_MENU)).upper() for _ in range(draw.between(30, 90)))


def _lorem(draw: Draw) -> str:
    sentences = (" ".join(draw.pick(_LOREM) for _ in range(draw.between(6, 14))) for _ in range(draw.between(8, 24)))
    return " ".join(sentence.capitalize() + "." for sentence in sentences)


def _code(draw: Draw) -> str:
    lines = []
    for _ in range(draw.between(15, 50)):
        a, b, c = (draw.pick(_IDENTIFIERS) for _ in range(3))
        lines.append(draw.pick((f"if ({a} != {b}) {{ return {c}; }}", f"var {a} = {b}[{c}];", f"  {a}.push({b}({c}));", "}")))
    return "\n".join(lines)


def _boilerplate(draw: Draw) -> str:
    return "\n".join(draw.pick((menu_line, menu_line, footer_line))(draw) for _ in range(draw.between(6, 16)))


# Kind of junk -> (writer, language of the page; "und" where there is none).
KINDS: dict[str, tuple[Callable[[Draw], str], str]] = {
    "spam": (_spam, "deu"),
    "repeated": (_repeated, "deu"),
    "symbols": (_symbols, "und"),
    "short": (_short, "deu"),
    "capitals": (_capitals, "deu"),
    "lorem": (_lorem, "lat"),
    "code": (_code, "und"),
    "boilerplate": (_boilerplate, "deu"),
}


def junk_page(draw: Draw, ordinal: int) -> tuple[str, str, str]:
    """Kind, language and text of the junk page with this ordinal; kinds take turns."""
    kind = tuple(KINDS)[ordinal % len(KINDS)]
    write, language = KINDS[kind]
    return kind, language, write(draw)
