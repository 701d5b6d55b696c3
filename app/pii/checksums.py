"""Check digits of identity, tax, bank and card numbers: pure functions over strings of digits."""

from __future__ import annotations

from datetime import date
from operator import mul
from typing import Final

_PESEL_WEIGHTS: Final = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
_NIP_WEIGHTS: Final = (6, 5, 7, 2, 3, 4, 5, 6, 7)
_REGON9_WEIGHTS: Final = (8, 9, 2, 3, 4, 5, 6, 7)
_REGON14_WEIGHTS: Final = (2, 4, 8, 5, 0, 9, 7, 3, 6, 1, 2, 4, 8)
_ID_CARD_WEIGHTS: Final = (7, 3, 1, 9, 7, 3, 1, 7, 3)
_ID_CARD_CHECK_POSITION: Final = 3
_PASSPORT_WEIGHTS: Final = (7, 3, 0, 1, 7, 3, 1, 7, 3)
_PASSPORT_CHECK_POSITION: Final = 2
_LAND_REGISTER_CHARACTERS: Final = "0123456789XABCDEFGHIJKLMNOPRSTUWYZ"
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_VIN_VALUES: Final = str.maketrans("ABCDEFGHJKLMNPRSTUVWXYZ", "12345678123457923456789")
_VIN_CHARACTERS: Final = frozenset("0123456789ABCDEFGHJKLMNPRSTUVWXYZ")
_PESEL_CENTURIES: Final = {0: 1900, 20: 2000, 40: 2100, 60: 2200, 80: 1800}

IBAN_LENGTHS: Final[dict[str, int]] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Characters of an IBAN by country, from the SWIFT IBAN registry."""

_DOUBLED: Final = str.maketrans("0123456789", "0246813579")
"""Digit sums of twice each digit."""
_IBAN_VALUES: Final = {ord(letter): str(value) for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ", start=10)}


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(map(mul, map(int, digits), weights))


def is_pesel(digits: str) -> bool:
    """Whether 11 digits are a PESEL: check digit, and a birth date whose month carries the century.

    Source: Polish Act on population registration of 24 September 2010, article 15.
    """
    if len(digits) != 11 or (10 - _weighted(digits, _PESEL_WEIGHTS) % 10) % 10 != int(digits[10]):
        return False
    month = int(digits[2:4])
    century = _PESEL_CENTURIES[month // 20 * 20]
    try:
        date(century + int(digits[:2]), month % 20, int(digits[4:6]))
    except ValueError:
        return False
    return True


def is_nip(digits: str) -> bool:
    """Whether 10 digits are a NIP, the Polish tax number.

    Source: Polish Act on the rules of registration of taxpayers of 13 October 1995 (weights, modulo 11).
    """
    if len(digits) != 10 or len(set(digits)) == 1:
        return False
    return _weighted(digits, _NIP_WEIGHTS) % 11 == int(digits[9])


def is_regon(digits: str) -> bool:
    """Whether 9 or 14 digits are a REGON, the Polish business register number; the long one contains the short one.

    Source: Regulation of the Polish Council of Ministers on the REGON register of 30 November 2015.
    """
    if len(digits) not in {9, 14} or len(set(digits)) == 1:
        return False
    if _weighted(digits, _REGON9_WEIGHTS) % 11 % 10 != int(digits[8]):
        return False
    return len(digits) == 9 or _weighted(digits, _REGON14_WEIGHTS) % 11 % 10 == int(digits[13])


def is_polish_id_card(number: str) -> bool:
    """Whether three capital letters and six digits are a Polish identity card; the first digit is the check digit.

    Source: ICAO 9303 letter values (A is 10), weights 7 3 1 _ 7 3 1 7 3 of the Polish series and number.
    """
    if len(number) != 9 or not (number[:3].isalpha() and number[3:].isdigit() and number.isascii()):
        return False
    values = [int(character, 36) for character in number.upper()]
    weighted = sum(
        value * weight
        for position, (value, weight) in enumerate(zip(values, _ID_CARD_WEIGHTS, strict=True))
        if position != _ID_CARD_CHECK_POSITION
    )
    return weighted % 10 == values[_ID_CARD_CHECK_POSITION]


def is_luhn(digits: str) -> bool:
    """Whether a string of digits ends in its Luhn check digit (ISO/IEC 7812-1 annex B)."""
    total = sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))
    return total % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether digits are a payment card number: a network's prefix and length, and the Luhn digit.

    Source: issuer identification ranges of ISO/IEC 7812 as published by the networks. Of 16 digits all that begin with
    35 count, and not only JCB's 3528 to 3589: makers of test data (Faker) take the whole range.
    """
    length = len(digits)
    if not 12 <= length <= 19 or len(set(digits)) == 1:
        return False
    two, four = int(digits[:2]), int(digits[:4])
    known = (
        (digits[0] == "4" and length in {13, 16, 19})
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and length == 16)
        or (two in {34, 37} and length == 15)
        or (two in {36, 38, 39} and length >= 14)
        or (300 <= int(digits[:3]) <= 305 and length >= 14)
        or ((four == 6011 or two in {64, 65}) and length >= 16)
        or (two == 35 and (length == 16 or (3528 <= four <= 3589 and length > 16)))
        or (four in {2131, 1800} and length == 15)
        or (two == 62 and length >= 16)
        or (two in {50, 56, 57, 58, 63, 67, 68})
    )
    return known and is_luhn(digits)


def is_iban(compact: str) -> bool:
    """Whether capital letters and digits without separators are an IBAN: length of the country and ISO 7064 "
    "mod 97."""
    if IBAN_LENGTHS.get(compact[:2]) != len(compact) or not compact[2:4].isdigit():
        return False
    rearranged = compact[4:] + compact[:4]
    return int(rearranged.translate(_IBAN_VALUES)) % 97 == 1


def is_polish_passport(number: str) -> bool:
    """Whether two letters and seven digits are a Polish passport; the first digit is the check digit.

    Source: ICAO 9303 letter values (A is 10), weights 7 3 _ 1 7 3 1 7 3 of the Polish series and number.
    """
    if len(number) != 9 or not (number[:2].isalpha() and number[2:].isdigit() and number.isascii()):
        return False
    values = [int(character, 36) for character in number]
    weighted = sum(value * weight for value, weight in zip(values, _PASSPORT_WEIGHTS, strict=True))
    return weighted % 10 == values[_PASSPORT_CHECK_POSITION]


def is_land_register(number: str) -> bool:
    """Whether a court's four characters, eight digits and a check digit are a Polish land register number.

    In capitals, without slashes. Source: Regulation of the Polish Minister of Justice on land registers of 15
    February 2016; digits count as themselves, X as 10, the other letters from A as 11 to Z as 33
    without Q and V, weights 1 3 7.
    """
    if len(number) != 13 or not number[4:].isdigit() or not number.isascii():
        return False
    try:
        values = [_LAND_REGISTER_CHARACTERS.index(character) for character in number]
    except ValueError:
        return False
    return sum(value * weight for value, weight in zip(values, (1, 3, 7) * 4, strict=False)) % 10 == values[12]


def is_nhs_number(digits: str) -> bool:
    """Whether 10 digits are an NHS number (weights 10 to 2, modulo 11).

    Source: NHS Data Dictionary, NHS NUMBER.
    """
    if len(digits) != 10 or len(set(digits)) == 1:
        return False
    check = 11 - _weighted(digits, tuple(range(10, 1, -1))) % 11
    return check % 11 == int(digits[9])


def is_passport_zone(line: str) -> bool:
    """Whether 44 characters are the second line of a passport's machine-readable zone.

    Source: ICAO 9303 part 4, section 4.2.2: check digits of number, birth, expiry and all of them, weights 7 3 1.
    """
    return len(line) == 44 and all(
        _zone_check(part) == check
        for part, check in (
            (line[:9], line[9]),
            (line[13:19], line[19]),
            (line[21:27], line[27]),
            (line[:10] + line[13:20] + line[21:43], line[43]),
        )
    )


def _zone_check(part: str) -> str:
    values = (0 if character == "<" else int(character, 36) for character in part)
    return str(sum(value * (7, 3, 1)[position % 3] for position, value in enumerate(values)) % 10)


def is_routing_number(digits: str) -> bool:
    """Whether 9 digits are a routing number of the American Bankers Association (weights 3 7 1, modulo 10).

    Source: ABA Key to Routing Numbers; the first two digits are a Federal Reserve district: 01 to 12, plus 20 for
    thrifts and 60 for electronic payments, or 00 for the government and 80 for traveller's cheques.
    """
    if len(digits) != 9 or len(set(digits)) == 1:
        return False
    district = int(digits[:2])
    known = district <= 12 or 21 <= district <= 32 or 61 <= district <= 72 or district == 80
    return known and _weighted(digits, (3, 7, 1) * 3) % 10 == 0


def is_taxpayer_reference(digits: str) -> bool:
    """Whether 10 digits are a Unique Taxpayer Reference of HMRC: the first is the check digit.

    Source: HMRC, "Validation of UTRs": weights 6 7 8 9 10 5 4 3 2 of the other nine, modulo 11.
    """
    if len(digits) != 10 or len(set(digits)) == 1:
        return False
    check = 11 - _weighted(digits[1:], (6, 7, 8, 9, 10, 5, 4, 3, 2)) % 11
    return (check - 9 if check > 9 else check) == int(digits[0])


def is_pwz(digits: str) -> bool:
    """Whether 7 digits are the number of a Polish doctor's right to practise: the first is the check digit.

    Source: Regulation of the Polish Minister of Health on the register of doctors: weights 1 to 6, modulo 11.
    """
    if len(digits) != 7 or digits[0] == "0":
        return False
    return _weighted(digits[1:], (1, 2, 3, 4, 5, 6)) % 11 == int(digits[0])


def is_vehicle_number(number: str) -> bool:
    """Whether 17 capital letters and digits are a vehicle identification number (VIN).

    Never I, O or Q, at the end four digits, and, where the first character is 1 to 5 (North America), the check digit
    in the ninth place. Source: ISO 3779; 49 CFR 565.15 for the weights and the values of the letters, modulo 11.
    """
    if len(number) != 17 or not number[13:].isdigit() or number.isdigit() or not set(number) <= _VIN_CHARACTERS:
        return False
    if number[0] not in "12345":
        return True
    return "0123456789X"[_weighted(number.translate(_VIN_VALUES), _VIN_WEIGHTS) % 11] == number[8]


def is_device_number(digits: str) -> bool:
    """Whether digits are the identity of a mobile device: 15 of an IMEI with the Luhn digit, or 16 of an IMEISV, whose
    last two are the version of its software and which has no check digit.

    Source: 3GPP TS 23.003, section 6.2.
    """
    if len(digits) not in {15, 16} or len(set(digits)) == 1:
        return False
    return len(digits) == 16 or is_luhn(digits)
