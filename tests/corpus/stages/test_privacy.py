"""Personal data: what is found, what is left alone, and planted values on real pages."""

import ipaddress
import os
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.stage import KEEP, Outcome
from corpus.stages.personal_data import CANDIDATE, FINDERS, IBAN_LENGTHS, check_digits_hold, find
from corpus.stages.privacy import KINDS, Privacy

DATA = Path(os.environ.get("DEFINEMED_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))

FOUND = [
    ("Schreiben Sie an erika.muster+post@praxis-muster.example.de.", "email", "erika.muster+post@praxis-muster.example.de"),
    ("mailto:info@ärzte-nord.de", "email", "info@ärzte-nord.de"),
    ("praxis (at) example.org oder", "email", "praxis (at) example.org"),
    ("praxis[at]example[dot]org", "email", "praxis[at]example[dot]org"),
    ("Tel. +49 (0)30 1234567", "phone", "+49 (0)30 1234567"),
    ("unter +49 30/123 45-67 erreichbar", "phone", "+49 30/123 45-67"),
    ("Praxis 030/1234567, Berlin", "phone", "030/1234567"),
    ("(0711) 123 45-0", "phone", "(0711) 123 45-0"),
    ("mobil 0171-1234567.", "phone", "0171-1234567"),
    ("oder 01711234567", "phone", "01711234567"),
    ("Wien: 0043 1 5131234", "phone", "0043 1 5131234"),
    ("Zürich +41 44 668 18 00", "phone", "+41 44 668 18 00"),
    ("Zürich 044 668 18 00", "phone", "044 668 18 00"),
    ("call +1 (555) 123-4567 now", "phone", "+1 (555) 123-4567"),
    ("Telefon: 57 97 172 (Zentrale)", "phone", "57 97 172"),
    ("Fax: 0228/107-2968", "phone", "0228/107-2968"),
    ("030 1234567 10115 Berlin", "phone", "030 1234567"),
    ("von 91.12.34.56 aus", "ip", "91.12.34.56"),
    ("IP-Adresse 8.8.8.8", "ip", "8.8.8.8"),
    ("Beispiel 192.0.2.17 und", "ip", "192.0.2.17"),
    ("(198.51.100.200)", "ip", "198.51.100.200"),
    ("2001:db8::17 oder", "ip", "2001:db8::17"),
    ("2a01:4f8:c17:b8f::2/64", "ip", "2a01:4f8:c17:b8f::2"),
    ("Konto DE89 3704 0044 0532 0130 00 bei", "iban", "DE89 3704 0044 0532 0130 00"),
    ("AT611904300234573201", "iban", "AT611904300234573201"),
    ("CH93 0076 2011 6238 5295 7 BIC", "iban", "CH93 0076 2011 6238 5295 7"),
]

LEFT = [
    "am 01.02.2003, am 03/04/2005, 2003-01-02 und 10:30:45",
    "ISBN 978-3-16-148410-0, ISBN 0-8493-0486-5, ISSN 0171-5445",
    "1.234.567,89 Euro, 0,50 €, +12,5 %, +100 000 000 Euro",
    "von 1998 bis 2004, 1939-1945, 01067-01099 Dresden",
    "Aktenzeichen 0123 4567890, Kto. 0532 013000, BLZ 370 400 44",
    "laufende Nummer 12345678901234 und 000123456789",
    "Version 1.2.3.4, v10.20.30.40, Abschnitt 54.4.4.3, 9.3.1.51",
    "10.0.0.1, 192.168.1.1, 127.0.0.1, 100.64.1.1, 172.20.1.1, 240.1.2.3, 300.1.2.3",
    "::1, fe80::1, 12:30:45, std::vector, abc::def",
    "DE89 3704 0044 0532 0130 01",
    "user@host, @name, bild@2x.png, a@b",
    "MA 02111-1307 USA",
    "Telefon: 2003-2005",
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_found(text: str, kind: str, value: str) -> None:
    assert [(text[begin:end], k) for begin, end, k in find(text, KINDS)] == [(value, kind)]


def test_neighbours_are_found_each() -> None:
    ibans = ["NO93 8601 1117 947", "DE89 3704 0044 0532 0130 00", "AT611904300234573201"]
    numbers = ["030 1234567", "0171 2345678", "+41 44 668 18 00"]
    for kind, values in (("iban", ibans), ("phone", numbers)):
        text = "Tel.: " + " ".join(values)
        assert [text[begin:end] for begin, end, _ in find(text, (kind,))] == values
    assert find("Tel.: 12 030 1234567", ("phone",)) == [(9, 20, "phone")]  # two readings that overlap: the first rule's


@pytest.mark.parametrize("text", LEFT)
def test_left_alone(text: str) -> None:
    assert [text[begin:end] for begin, end, _ in find(text, KINDS)] == []


@settings(max_examples=300, deadline=None)
@given(st.ip_addresses(v=4))
def test_public_addresses_are_the_standard_librarys_and_documentation(address: ipaddress.IPv4Address) -> None:
    documentation = any(address in ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))
    special = address in ipaddress.ip_network("192.0.0.0/24")  # Python's releases differ on single addresses in it
    found = find(f"Der Server {address} antwortet", ("ip",))
    if not special:
        assert bool(found) == (address.is_global or documentation)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(IBAN_LENGTHS)), st.integers(0, 10**30), st.booleans())
def test_ibans_with_valid_check_digits_are_found_and_others_are_not(country: str, number: int, grouped: bool) -> None:
    account = str(number).zfill(31)[-(IBAN_LENGTHS[country] - 4) :]
    check = 98 - int("".join(str(int(c, 36)) for c in account + country) + "00") % 97
    good, bad = f"{country}{check:02d}{account}", f"{country}{(check + 1) % 100:02d}{account}"
    assert check_digits_hold(good) and not check_digits_hold(bad)
    shown = " ".join(good[i : i + 4] for i in range(0, len(good), 4)) if grouped else good
    assert find(f"Konto {shown} bei uns", ("iban",)) == [(6, 6 + len(shown), "iban")]
    assert find(f"Konto {bad} bei uns", ("iban",)) == []


def apply(texts: list[str], **params: object) -> Outcome:
    return Privacy(**params).open({})(pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], ["text"]))


def test_replace() -> None:
    texts = ["Nichts.", "Mail a@b.de, Tel. 030/1234567, 91.12.34.56", "DE89 3704 0044 0532 0130 00 ü a@b.de", ""]
    outcome = apply(texts, email_token="<MAIL>")
    assert outcome.columns["text"].to_pylist() == ["Nichts.", "Mail <MAIL>, Tel. <TELEFON>, <IP>", "<IBAN> ü <MAIL>", ""]
    assert outcome.columns["n_masked"].to_pylist() == [0, 3, 2, 0]
    assert outcome.counts == {"masked/email": 2, "masked/phone": 1, "masked/ip": 1, "masked/iban": 1}
    assert outcome.verdict is None


def test_drop_and_switches() -> None:
    texts = ["Nichts.", "Mail a@b.de", "Tel. 030/1234567"]
    outcome = apply(texts, mode="drop", phone=False)
    assert outcome.verdict.tolist() == [KEEP, 0, KEEP]
    assert outcome.value[1] == 1
    assert outcome.columns["text"].to_pylist() == texts
    nothing = apply(texts, email=False, phone=False, ip=False, iban=False)
    assert nothing.columns["text"].to_pylist() == texts
    assert len(apply([]).columns["text"]) == 0


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([t for t, _, _ in FOUND] + LEFT + ["0", "+", "Tel.:", "@", ":", ".1", "(", "12"]), st.text(max_size=5)
        ),
        max_size=6,
    )
)
def test_no_candidate_is_passed_over(pieces: list[str]) -> None:
    text = "".join(pieces)
    spans = find(text, KINDS)
    assert all(0 <= begin < end for begin, end, _ in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    for kind, finder in FINDERS.items():
        if list(finder(text)):
            assert pl.Series([text]).str.contains(CANDIDATE[kind])[0], kind


@pytest.mark.skipif(not (DATA / "web").is_dir(), reason="no real pages on this machine")
def test_planted_values_are_masked() -> None:
    truth = pl.read_parquet(DATA / "truth" / "web.parquet", columns=["id", "pii_kind", "pii_value"]).drop_nulls()
    pages = pl.concat([pl.read_parquet(file, columns=["id", "text"]) for file in sorted((DATA / "web").glob("*.parquet"))])
    planted = truth.join(pages, on="id", maintain_order="left")
    outcome = apply(planted["text"].to_list())
    texts = outcome.columns["text"].to_pylist()
    recall: dict[str, list[bool]] = {}
    for kind, value, before, after in zip(planted["pii_kind"], planted["pii_value"], planted["text"], texts, strict=True):
        if kind != "ip" or ipaddress.ip_address(value).is_global:
            recall.setdefault(kind, []).append(after.count(value) < before.count(value))
    assert set(recall) == set(KINDS)
    assert {kind: sum(hits) / len(hits) >= 0.99 for kind, hits in recall.items()} == dict.fromkeys(recall, True)
