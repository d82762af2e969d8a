"""Finding personal data in one text: e-mail addresses, phone numbers, public IP addresses, IBANs.

Every finder yields (begin, end) character spans. Shapes come from a regular expression, what a shape cannot say is verified: an IBAN's
length and check digits (ISO 13616, ISO 7064 mod 97-10), an address's range (IANA special-purpose registries), a phone number's
grouping (ITU-T E.123, DIN 5008) and the words around it. Phone rules know the German, Austrian, Swiss and international notations.
``CANDIDATE`` holds for each kind an expression without look-around that every hit's text matches, to pass over texts in bulk.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]

CANDIDATE = {
    "email": r"@|[(\[{] ?(?:at|ät|AT) ?[)\]}]",
    "iban": r"(?-u:\b)[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]",
    "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9a-fA-F]:[0-9a-fA-F]{0,4}:",
    "phone": r"\+ ?\(?[0-9]|(?-u:\b)0[0-9]{1,5}\)?[ /.()–-]{0,3}[0-9]|"
    r"(?i-u:tel|fon|phone|fax|mobil|handy|hotline|rufnummer)[a-zA-Z.-]{0,12}[:.] ?\(?[1-9]",
}

_AT = r"(?:@| ?[(\[{] ?(?:at|ät|AT) ?[)\]}] ?)"
_DOT = r"(?:\.| ?[(\[{] ?(?:dot|punkt|DOT) ?[)\]}] ?)"
_EMAIL = re.compile(rf"(?<![\w.+%-])[A-Za-z0-9_][\w.+%-]{{0,63}}{_AT}(?:\w[\w-]{{0,62}}{_DOT}){{1,6}}[A-Za-z]{{2,24}}(?![\w@])")
_FILE_ENDINGS = ("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "service", "timer", "socket", "mount", "target")


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses, also with the at sign written out: "name (at) example.org"."""
    for match in _EMAIL.finditer(text):
        if not match[0].lower().endswith(tuple(f".{ending}" for ending in _FILE_ENDINGS)):
            yield match.span()


_COUNTRIES_BY_IBAN_LENGTH = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
IBAN_LENGTHS = {country: length for length, countries in _COUNTRIES_BY_IBAN_LENGTH.items() for country in countries.split()}
"""Characters of an IBAN by country (SWIFT IBAN registry)."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,29}")


def ibans(text: str) -> Iterator[Span]:
    """IBANs with valid check digits, in groups or in one piece."""
    match = _IBAN.search(text)
    while match:
        length = IBAN_LENGTHS.get(match[0][:2], 0)
        places = [k for k, char in enumerate(match[0]) if char.isalnum()][:length]
        end = match.start() + places[-1] + 1 if places else 0
        number = "".join(match[0][k] for k in places)
        valid = len(number) == length > 0 and not text[end : end + 1].isalnum() and check_digits_hold(number)
        if valid:
            yield match.start(), end
        # The expression is greedy: another IBAN may begin in what it took beyond this one.
        match = _IBAN.search(text, end if valid else match.start() + 4)


def check_digits_hold(iban: str) -> bool:
    """ISO 7064 mod 97-10 over the IBAN without spaces."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


# The special-purpose ranges that no person's machine has on the Internet. The documentation ranges (192.0.2.0/24, 198.51.100.0/24,
# 203.0.113.0/24, 2001:db8::/32) are left out: in prose they stand where an address would, and masking them costs nothing.
_NON_PUBLIC = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "240.0.0.0/4",
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_V4 = re.compile(r"(?<![\w.,/+-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w+]|\.[0-9]|,[0-9]|-\w)")
_V6 = re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:(?:[0-9a-fA-F]{0,4}:){1,6}[0-9a-fA-F]{0,4}(?![\w:])")
_NUMBERED = re.compile(
    r"(?i)(?:\b(?:version|ver|release|rel|revision|rev|build|firmware|kernel|update|patch|v|nr|nummer|nummern|abschnitt|kapitel|kap|ziffer|ziff|"
    r"tabelle|tab|abbildung|abb|anlage|anhang|punkt|buchst|satz|teil|oid)|§)\.?[ :]{0,2}(?:[\w.-]+(?:,| und| bis| oder|/) ?)?$"
)


_NETWORK = re.compile(r"(?i)(?:\bIP\b|\bIPv4|adress|address|server|host|router|gateway|\bDNS|\bping\b|proxy|firewall)")


def ips(text: str) -> Iterator[Span]:
    """Public IP addresses (version 4 and 6); version and section numbers of the same shape are passed over."""
    for match in _V4.finditer(text):
        if _is_public_v4(match[0]) and not _counts_something(text, match):
            yield match.span()
    for match in _V6.finditer(text):
        try:
            address = ipaddress.IPv6Address(match[0])
        except ValueError:
            continue
        if address in _GLOBAL_V6:
            yield match.span()


def _is_public_v4(text: str) -> bool:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not any(address in network for network in _NON_PUBLIC)


def _counts_something(text: str, match: re.Match[str]) -> bool:
    """Whether four numbers are an outline or version number: so named just before, or all small with no word of networks on their line.

    Of all addresses 0.4 % have four numbers below 64; of the quadruples of such numbers on real pages nearly none is an address.
    """
    begin = max(0, match.start() - 40, text.rfind("\n", 0, match.start()) + 1)
    if _NUMBERED.search(text, max(0, match.start() - 40), match.start()):
        return True
    small = all(int(part) < 64 for part in match[0].split("."))
    return small and not _NETWORK.search(text, begin, match.start())


_PHONE = re.compile(r"(?<![\w+.,/–-])(?:\(?\+ ?\(?|\(?0)[0-9]\)?(?:[ /.()–-]{0,3}[0-9]){5,18}(?!\w)")
_NAMED_PHONE = re.compile(
    r"(?i)\b(?:tele(?:fon|phone|fax)|tel|phone|fon|fax|mobil|handy|hotline|rufnummer)(?:nummer)?(?:\.?-?nr)?(?:\.?:|\.) ?"
    r"(\(?[1-9][0-9]\)?(?:[ /.()–-]{0,3}[0-9]){3,12})(?![\w%])"
)
_PHONE_WORD = re.compile(
    r"(?i)(?:tele(?:fon|phone|fax)|\btel|phone|fon|fax|mobil|mobile|handy|hotline|rufnummer|\bruf|notruf|whatsapp|sms|☎|℡)"
    r"(?:nummern?)?(?:\.?[ -]?nr)?[.:]{0,2}[ (]{0,3}$"
)
_OTHER_NUMBER = re.compile(
    r"(?i)\b(?:isbn|issn|doi|pmid|pzn|ean|gtin|konto|kto|blz|iban|bic|hrb|az|aktenzeichen|nummer|nr|no|art|din|iso|en|rfc|cas|patent|"
    r"seite|s|bd|band|version|plz|gnd|viaf|lccn|ark|id)(?:-?1[03])?[.:#]{0,2} {0,2}$"
)
_COUNTRY = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|21[1-8]|22[0-9]|23[0-9]|24[0-9]|25[0-8]|26[0-9]|29[01789]|35[0-9]|37[0-9]|38[0-35-79]|"
    r"42[013]|50[0-9]|59[0-9]|67[0-9]|68[0-9]|69[0-2]|80[08]|85[0-6]|88[0-8]|96[0-9]|97[0-79]|99[2-68]"
)
_NEXT_NUMBER = re.compile(r" 0[0-9]{2}")
_QUANTITY = re.compile(r" ?(?:€|\$|%|°|Euro?\b|EUR\b|DM\b|Mio|Mrd|km\b|kg\b|mg\b|ml\b)")
_ZIP_CODE = re.compile(r"[A-Z]{2} ?$")  # a United States ZIP+4 code follows its state: MA 02111-1307
_YEARS = re.compile(r"\(?(?:1[89]|20)[0-9]{2}\)?[ /.–-]+(?:(?:1[89]|20)[0-9]{2}|[0-9][0-9]?)\b")


def phones(text: str) -> Iterator[Span]:
    """Phone numbers: international with + or 00, national with a trunk 0, and any row of digits that a word like "Tel.:" introduces."""
    match = _PHONE.search(text)
    while match:
        end = match.start() + _accepted_length(text, match)
        if end > match.start():
            yield match.start(), end
        match = _PHONE.search(text, end if end > match.start() else match.end())
    for match in _NAMED_PHONE.finditer(text):
        if sum(map(str.isdigit, match[1])) >= 5 and not _YEARS.match(match[1]):
            yield match.span(1)


def _accepted_length(text: str, match: re.Match[str]) -> int:
    """Characters of the candidate that are a phone number in their context; 0 if none."""
    before = max(0, match.start() - 24)
    named = _PHONE_WORD.search(text, before, match.start()) is not None
    if not named and _OTHER_NUMBER.search(text, before, match.start()):
        return 0
    if re.fullmatch(r"0[0-9]{4}-[0-9]{4}", match[0]) and _ZIP_CODE.search(text, before, match.start()):
        return 0
    length = _phone_end(match[0], named)
    return 0 if _QUANTITY.match(text, match.start() + length) else length


def _phone_end(candidate: str, named: bool) -> int:
    """Length of the longest run of whole digit groups that has the shape of a phone number; 0 if none."""
    groups = list(re.finditer(r"[0-9]+", candidate))
    international = candidate.lstrip("( ").startswith(("+", "00"))
    # " 0171" after an area code and digits is the next number's beginning.
    n_groups = next((k for k in range(2, len(groups)) if _NEXT_NUMBER.match(candidate, groups[k].start() - 1)), len(groups))
    for last in range(n_groups, 0, -1):
        parts = [group[0] for group in groups[:last]]
        head = candidate[: groups[last - 1].end()]
        if _is_international(parts, head, named) if international else _is_national(parts, head, named):
            closing = head.count("(") - head.count(")") == 1 and candidate[len(head) :].startswith(")")
            return len(head) + closing
    return 0


def _is_international(parts: list[str], head: str, named: bool) -> bool:
    """+49 (0)30 1234567, 0049 30 1234567, +41 44 668 18 00."""
    if "+" not in head:
        parts = [parts[0][2:], *parts[1:]]
    digits = "".join(parts)
    whole_code = len(parts) > 1 and parts[0] != "" and len(parts[0]) <= 3
    country = _COUNTRY.fullmatch(parts[0]) if whole_code else _COUNTRY.match(digits)
    if country is None or not (8 if named else 9) <= len(digits) <= 16:
        return False
    area = digits[country.end() :]
    return area[0] != "0" or "(0)" in head or country[0] in ("49", "43", "41", "39")


def _is_national(parts: list[str], head: str, named: bool) -> bool:
    """030/1234567, (0711) 123 45-0, 0171-1234567; without separator only mobile numbers or where a word says so."""
    digits, area, local = "".join(parts), parts[0], "".join(parts[1:])
    if not local:
        return 7 <= len(digits) <= 13 if named else re.fullmatch(r"01[567][0-9]{8,9}", digits) is not None
    if area[1] == "0" or not 2 <= len(area) <= 12:
        return False
    if named:
        return 6 <= len(digits) <= 14
    separators = re.findall(r"\D+", head.lstrip("("))
    grouped = 3 <= len(area) <= 6 or (area == "01" and separators[0].strip() == "/" and len(parts[1]) >= 6)
    plain = any("." in s for s in separators) or (len(parts) == 2 and [len(p) for p in parts] == [4, 4])  # a decimal, an ISSN
    regular = len(parts) > 2 and len(set(map(len, parts))) == 1  # 012 345 678: a serial number
    return (
        grouped
        and not plain
        and not regular
        and 8 <= len(digits) <= 13
        and (local[0] != "0" or area.startswith(("015", "016", "017")))  # behind a mobile prefix any digit may come
        and min(map(len, parts[1:-1]), default=2) > 1
    )


FINDERS: dict[str, Finder] = {"iban": ibans, "email": emails, "ip": ips, "phone": phones}
"""In order of precedence: of two spans that overlap the later one is no find."""


def find(text: str, kinds: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """(begin, end, kind) of everything of these kinds, sorted, without overlaps."""
    found: list[tuple[int, int, str]] = []
    for kind, finder in FINDERS.items():
        for begin, end in finder(text) if kind in kinds else ():
            if all(end <= other_begin or other_end <= begin for other_begin, other_end, _ in found):
                found.append((begin, end, kind))
    return sorted(found)
