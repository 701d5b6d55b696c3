"""Polish case forms of given names, made from the nominative."""

from __future__ import annotations

import pytest

from app.pii.given_names import feminine_forms, folded, masculine_forms


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("anna", "anna anny annie annę anną anno"),
        ("maria", "maria marii marię marią mario"),
        ("kasia", "kasia kasi kasię kasią kasiu"),
        ("maja", "maja mai maję mają majo"),
        ("agnieszka", "agnieszka agnieszki agnieszce agnieszkę agnieszką agnieszko"),
        ("marta", "marta marty marcie martę martą marto"),
    ],
)
def test_feminine(name: str, forms: str) -> None:
    assert set(forms.split()) <= feminine_forms(name)


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("marcin", "marcin marcina marcinowi marcinem marcinie"),
        ("piotr", "piotr piotra piotrowi piotrem piotrze"),
        ("paweł", "paweł pawła pawłowi pawłem pawle"),
        ("marek", "marek marka markowi markiem marku"),
        ("jerzy", "jerzy jerzego jerzemu jerzym"),
        ("antoni", "antoni antoniego antoniemu antonim"),
        ("kuba", "kuba kuby kubie kubę kubą kubo"),
        ("staś", "staś stasia stasiowi stasiem stasiu"),
    ],
)
def test_masculine(name: str, forms: str) -> None:
    assert set(forms.split()) <= masculine_forms(name)


def test_folding_takes_diacritics_away() -> None:
    assert folded("Łucją") == "lucja"
