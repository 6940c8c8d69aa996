"""Countries of customers, and tax ids: which kind each country has, and how one is written.

Kinds and forms: docs.stripe.com/billing/customer/tax-ids, "Supported tax ID types" (2026-11); of the EU also ec.europa.eu,
VIES, "VAT identification number structure". Only the form is checked here: whether a number is in force is Stripe's to ask.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from babel import Locale
from django.utils.translation import get_language, gettext

from apps.core.errors import InvalidRequest

# What CLDR lists among territories and ISO 3166-1 does not assign.
NO_COUNTRIES = frozenset({"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ"})
PUNCTUATION = re.compile(r"[\s.\-/]+")
REGION = re.compile(r"^[a-z]{2,3}(?:-[a-z]{4})?-([a-z]{2})\b", re.IGNORECASE)


class Kind(NamedTuple):
    """`pattern` is of the letters and digits alone; `written` is how Stripe has it."""

    type: str
    pattern: str
    written: str
    example: str


class TaxId(NamedTuple):
    type: str
    value: str


class InvalidTaxId(InvalidRequest):
    """It is none of the country's. Nothing was kept."""

    code = "invalid_tax_id"


def vat(prefix: str, rest: str, example: str) -> Kind:
    return Kind("eu_vat", rf"(?:{prefix})?({rest})", rf"{prefix}\1", prefix + example)


KINDS = {
    "AT": vat("AT", r"U\d{8}", "U12345678"),
    "BE": vat("BE", r"[01]\d{9}", "0123456789"),
    "BG": vat("BG", r"\d{9,10}", "0123456789"),
    "CY": vat("CY", r"\d{8}[A-Z]", "12345678Z"),
    "CZ": vat("CZ", r"\d{8,10}", "1234567890"),
    "DE": vat("DE", r"\d{9}", "123456789"),
    "DK": vat("DK", r"\d{8}", "12345678"),
    "EE": vat("EE", r"\d{9}", "123456789"),
    "ES": vat("ES", r"[A-Z0-9]\d{7}[A-Z0-9]", "A1234567Z"),
    "FI": vat("FI", r"\d{8}", "12345678"),
    "FR": vat("FR", r"(?:\d{2}|(?<=FR)[A-Z0-9]{2})\d{9}", "AB123456789"),  # letters may be another country's
    "GR": vat("EL", r"\d{9}", "123456789"),
    "HR": vat("HR", r"\d{11}", "12345678912"),
    "HU": vat("HU", r"\d{8}", "12345678"),
    "IE": vat("IE", r"\d[A-Z0-9+*]\d{5}[A-Z]{1,2}", "1234567AB"),
    "IT": vat("IT", r"\d{11}", "12345678912"),
    "LT": vat("LT", r"\d{9}(?:\d{3})?", "123456789123"),
    "LU": vat("LU", r"\d{8}", "12345678"),
    "LV": vat("LV", r"\d{11}", "12345678912"),
    "MT": vat("MT", r"\d{8}", "12345678"),
    "NL": vat("NL", r"\d{9}B\d{2}", "123456789B12"),
    "PL": vat("PL", r"\d{10}", "1234567890"),
    "PT": vat("PT", r"\d{9}", "123456789"),
    "RO": vat("RO", r"\d{2,10}", "1234567891"),
    "SE": vat("SE", r"\d{12}", "123456789123"),
    "SI": vat("SI", r"\d{8}", "12345678"),
    "SK": vat("SK", r"\d{10}", "1234567891"),
    "AU": Kind("au_abn", r"(\d{11})", r"\1", "12345678912"),
    "CA": Kind("ca_bn", r"(\d{9})", r"\1", "123456789"),
    "CH": Kind("ch_vat", r"(?:CHE)?(\d{3})(\d{3})(\d{3})(MWST|TVA|IVA)", r"CHE-\1.\2.\3 \4", "CHE-123.456.789 MWST"),
    "CN": Kind("cn_tin", r"([A-Z0-9]{15,20})", r"\1", "123456789012345678"),
    "GB": Kind("gb_vat", r"(?:GB)?(\d{9}|\d{12})", r"GB\1", "GB123456789"),
    "IN": Kind("in_gst", r"(\d{2}[A-Z]{5}\d{4}[A-Z][A-Z0-9]Z[A-Z0-9])", r"\1", "12ABCDE3456FGZH"),
    "JP": Kind("jp_trn", r"T?(\d{13})", r"T\1", "T1234567891234"),
    "KR": Kind("kr_brn", r"(\d{3})(\d{2})(\d{5})", r"\1-\2-\3", "123-45-67890"),
    "NO": Kind("no_vat", r"(?:NO)?(\d{9})(?:MVA)?", r"\1MVA", "123456789MVA"),
    "NZ": Kind("nz_gst", r"(\d{8,9})", r"\1", "123456789"),
    "SG": Kind("sg_gst", r"([A-Z]\d{8}[A-Z])", r"\1", "M12345678X"),
    "US": Kind("us_ein", r"(\d{2})(\d{7})", r"\1-\2", "12-3456789"),
}  # fmt: skip


def parse(country: str, given: str) -> TaxId:
    """As Stripe writes it, whatever spaces, dots, case or missing prefix it came with. Raises InvalidTaxId."""
    kind = KINDS.get(country)
    if kind is None:
        raise InvalidTaxId(
            gettext("Tax IDs of this country are taken on the payment page. Leave the field empty here."),
            param="tax_id",
        )
    match = re.fullmatch(kind.pattern, PUNCTUATION.sub("", given.upper()), re.ASCII)
    if match is None:
        raise InvalidTaxId(
            gettext("This is no tax ID of that country: one looks like %(example)s. Correct it, or leave it empty.")
            % {"example": kind.example},
            param="tax_id",
        )
    return TaxId(kind.type, match.expand(kind.written))


def countries() -> list[tuple[str, str]]:
    """Code (ISO 3166-1 alpha-2) and name, by name, in the reader's language."""
    return list(named(get_language() or "en"))


@lru_cache(maxsize=8)
def named(language: str) -> tuple[tuple[str, str], ...]:
    territories = Locale.parse(language, sep="-").territories
    found = [(str(code), str(name)) for code, name in territories.items() if re.fullmatch("[A-Z]{2}", code)]
    return tuple(sorted((pair for pair in found if pair[0] not in NO_COUNTRIES), key=lambda pair: pair[1]))


def guess(accept_language: str) -> str:
    """The country that a browser's first language names, as de-AT does; "" where it names none."""
    match = REGION.match(accept_language.strip())
    code = match[1].upper() if match else ""
    return code if code in dict(countries()) else ""
