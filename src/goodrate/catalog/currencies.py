"""Currencies as shops write them beside a price, and their ISO 4217 codes."""

from __future__ import annotations

CODES = frozenset(
    """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
    CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG
    HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD
    MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF
    SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS
    VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL""".split()  # noqa: SIM905
)

# Signs and short names in small letters; of those that several currencies share, the first is meant unless said.
SIGNS: dict[str, tuple[str, ...]] = {
    "€": ("EUR",), "euro": ("EUR",), "£": ("GBP",), "us$": ("USD",), "ca$": ("CAD",), "c$": ("CAD",), "a$": ("AUD",),
    "au$": ("AUD",), "nz$": ("NZD",), "hk$": ("HKD",), "s$": ("SGD",), "nt$": ("TWD",), "mx$": ("MXN",),
    "r$": ("BRL",), "₹": ("INR",), "rs.": ("INR", "PKR", "LKR", "NPR"), "rs": ("INR", "PKR", "LKR", "NPR"),
    "₩": ("KRW",), "₽": ("RUB",), "₺": ("TRY",), "₴": ("UAH",), "₪": ("ILS",), "฿": ("THB",), "₫": ("VND",),
    "₱": ("PHP",), "zł": ("PLN",), "kč": ("CZK",), "ft": ("HUF",), "lei": ("RON",), "fr.": ("CHF",), "sfr.": ("CHF",),
    "fr": ("CHF",), "円": ("JPY",), "元": ("CNY",), "¥": ("JPY", "CNY"), "лв": ("BGN",), "лв.": ("BGN",),
    "$": ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN", "ARS", "CLP", "COP"),
}  # fmt: skip
# Signs of which no reading is the usual one: only a named currency says which is meant.
UNDECIDED: dict[str, tuple[str, ...]] = dict.fromkeys(("kr", "kr."), ("SEK", "NOK", "DKK", "ISK"))


def check_currency(currency: str) -> str:
    """The ISO code in capital letters. ValueError for a text that is none.

    >>> check_currency("eur")
    'EUR'
    """
    code = currency.strip().upper()
    if code not in CODES:
        raise ValueError(f"unknown currency {currency!r}; expected an ISO 4217 code such as EUR, GBP or USD")
    return code


def currency_of(written: str, named: str | None = None) -> str | None:
    """The code that a sign, a short name or a code stands for; None where it says none.

    named: the currency of the file, if it is known; a sign that several share means it.
    >>> currency_of("€"), currency_of("eur"), currency_of("$"), currency_of("$", "CAD"), currency_of("pcs")
    ('EUR', 'EUR', 'USD', 'CAD', None)
    """
    sign = written.strip().lower()
    if sign.upper() in CODES:
        return sign.upper()
    meant = SIGNS.get(sign) or UNDECIDED.get(sign, ())
    if named in meant:
        return named
    return meant[0] if meant and sign not in UNDECIDED else None
