"""Check digits: every valid number stops being one when a digit changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.pii.checksums import (
    is_card_number,
    is_device_number,
    is_iban,
    is_land_register,
    is_luhn,
    is_nhs_number,
    is_nip,
    is_passport_zone,
    is_pesel,
    is_polish_id_card,
    is_polish_passport,
    is_pwz,
    is_regon,
    is_routing_number,
    is_taxpayer_reference,
    is_vehicle_number,
)

VALID = [
    (is_pesel, "44051401359"),
    (is_pesel, "12233030794"),
    (is_nip, "6057939197"),
    (is_regon, "262726484"),
    (is_regon, "37886872574912"),
    (is_polish_id_card, "ATW752294"),
    (is_card_number, "4232686563551504"),
    (is_card_number, "378314758289994"),
    (is_card_number, "3593104420716844"),
    (is_iban, "PL42105010251450845813655301"),
    (is_iban, "GB03NWBK35931757813837"),
    (is_luhn, "79927398713"),
    (is_polish_passport, "EA8794970"),
    (is_land_register, "BI1B001095351"),
    (is_nhs_number, "5615102543"),
    (is_taxpayer_reference, "1955839661"),
    (is_pwz, "5425740"),
    (is_routing_number, "021000021"),
    (is_routing_number, "322271627"),
    (is_vehicle_number, "1M8GDM9AXKP042788"),
    (is_vehicle_number, "5GZCZ43D13S812715"),
    (is_device_number, "490154203237518"),
    (is_passport_zone, "L898902C36UTO7408122F1204159ZE184226B<<<<<10"),
]


@pytest.mark.parametrize(("check", "number"), VALID)
def test_valid_number_passes(check: Callable[[str], bool], number: str) -> None:
    assert check(number)


@pytest.mark.parametrize(("check", "number"), VALID)
def test_one_changed_digit_fails(check: Callable[[str], bool], number: str) -> None:
    changed = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert not check(changed)


@pytest.mark.parametrize(("check", "number"), VALID)
def test_one_digit_too_few_fails(check: Callable[[str], bool], number: str) -> None:
    assert not check(number[:-1])


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("00000000000", "month 0"),
        ("99133112348", "month 13"),
        ("99023012346", "30 February"),
    ],
)
def test_pesel_without_a_birth_date_fails(number: str, why: str) -> None:
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
    check = (10 - sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False)) % 10) % 10
    assert not is_pesel(number[:10] + str(check)), why


@pytest.mark.parametrize("number", ["1111111111111111", "9232686563551504"])
def test_card_number_of_no_network_fails(number: str) -> None:
    assert not is_card_number(number)


@pytest.mark.parametrize("number", ["000000000", "130000006", "950000008"])
def test_routing_number_of_no_district_fails(number: str) -> None:
    assert sum(int(digit) * weight for digit, weight in zip(number, (3, 7, 1) * 3, strict=True)) % 10 == 0
    assert not is_routing_number(number)
