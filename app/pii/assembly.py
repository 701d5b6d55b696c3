"""Puts Presidio's analyzer together from this project's recognizers, one set for each language."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from app.errors import ConfigurationError
from app.pii.config import CONFIG_NAME, EntityConfig, NamesConfig, PiiConfig
from app.pii.given_names import GivenNames
from app.pii.language import SUPPORTED_LANGUAGES
from app.pii.nlp import TaggerEngine
from app.pii.presidio import (
    AnalyzerEngine,
    EntityRecognizer,
    NlpArtifacts,
    RecognizerRegistry,
    RecognizerResult,
)
from app.pii.recognizers.age import AgeRecognizer
from app.pii.recognizers.api_key import SecretRecognizer
from app.pii.recognizers.base import TextRecognizer
from app.pii.recognizers.credit_card import CreditCardRecognizer
from app.pii.recognizers.crypto import WalletRecognizer
from app.pii.recognizers.date_of_birth import DateOfBirthRecognizer
from app.pii.recognizers.device_number import DeviceNumberRecognizer
from app.pii.recognizers.driver_licence import DriverLicenceRecognizer
from app.pii.recognizers.email_address import EmailRecognizer
from app.pii.recognizers.iban import IbanRecognizer
from app.pii.recognizers.insurance_number import InsuranceNumberRecognizer
from app.pii.recognizers.ip_address import IpAddressRecognizer
from app.pii.recognizers.known_names import KnownNameRecognizer
from app.pii.recognizers.mac_address import MacAddressRecognizer
from app.pii.recognizers.medical_record import MedicalRecordRecognizer
from app.pii.recognizers.nrp import GroupRecognizer
from app.pii.recognizers.passport import PassportRecognizer
from app.pii.recognizers.password import PasswordRecognizer
from app.pii.recognizers.phone import PhoneRecognizer
from app.pii.recognizers.pl_id_card import PolishIdCardRecognizer
from app.pii.recognizers.pl_krs import KrsRecognizer
from app.pii.recognizers.pl_land_register import LandRegisterRecognizer
from app.pii.recognizers.pl_nip import NipRecognizer
from app.pii.recognizers.pl_passport import PolishPassportRecognizer
from app.pii.recognizers.pl_pesel import PeselRecognizer
from app.pii.recognizers.pl_pwz import PwzRecognizer
from app.pii.recognizers.pl_regon import RegonRecognizer
from app.pii.recognizers.street_address import StreetAddressRecognizer
from app.pii.recognizers.tagged import TaggedRecognizer
from app.pii.recognizers.uk_nhs import NhsNumberRecognizer
from app.pii.recognizers.uk_nino import NinoRecognizer
from app.pii.recognizers.uk_utr import TaxpayerReferenceRecognizer
from app.pii.recognizers.url import CredentialUrlRecognizer
from app.pii.recognizers.us_ssn import SsnRecognizer
from app.pii.recognizers.us_tax_id import UsTaxIdRecognizer
from app.pii.recognizers.username import UsernameRecognizer
from app.pii.recognizers.vehicle_number import VehicleNumberRecognizer
from app.pii.recognizers.vehicle_plate import VehiclePlateRecognizer
from app.pii.recognizers.zip_code import PostcodeRecognizer
from app.pii.tagger import Tagger
from app.subwords import shipped

PATTERN_RECOGNIZERS: Final[tuple[type[TextRecognizer], ...]] = (
    PeselRecognizer,
    NipRecognizer,
    RegonRecognizer,
    PolishIdCardRecognizer,
    CreditCardRecognizer,
    IbanRecognizer,
    IpAddressRecognizer,
    EmailRecognizer,
    CredentialUrlRecognizer,
    WalletRecognizer,
    SsnRecognizer,
    PolishPassportRecognizer,
    PassportRecognizer,
    DriverLicenceRecognizer,
    LandRegisterRecognizer,
    KrsRecognizer,
    NinoRecognizer,
    NhsNumberRecognizer,
    TaxpayerReferenceRecognizer,
    UsTaxIdRecognizer,
    PwzRecognizer,
    MedicalRecordRecognizer,
    InsuranceNumberRecognizer,
    VehicleNumberRecognizer,
    DeviceNumberRecognizer,
    VehiclePlateRecognizer,
    DateOfBirthRecognizer,
    MacAddressRecognizer,
    StreetAddressRecognizer,
    PostcodeRecognizer,
    SecretRecognizer,
    PasswordRecognizer,
    UsernameRecognizer,
    AgeRecognizer,
    GroupRecognizer,
)
"""Those that need nothing but the text and their context words."""


OF_A_PART: Final = 0.5
"""Share of a threshold from which a probability counts where a text goes on: with more of it the tagger may be surer.
Below `tagger.LEAST` it reports nothing."""


class LinearAnalyzer(AnalyzerEngine):
    """Reads a text once with each recognizer of its language, and leaves context and thresholds to them.

    Presidio's `analyze` lists recognizers and entities anew for each text and looks for duplicates by names made of
    them (0.3 ms for a text in which nothing is found), and goes through all results once for each recognizer (0.4 s
    for a text full of numbers).
    """

    def __init__(self, recognizers: list[TextRecognizer], engine: TaggerEngine) -> None:
        super().__init__(
            registry=RecognizerRegistry(recognizers=recognizers, supported_languages=list(SUPPORTED_LANGUAGES)),
            nlp_engine=engine,
            supported_languages=list(SUPPORTED_LANGUAGES),
        )
        self._tagger = engine
        self._readers = {
            language: [each for each in recognizers if each.supported_language == language]
            for language in SUPPORTED_LANGUAGES
        }

    def found_in(self, text: str, language: str) -> list[RecognizerResult]:
        """Return what all recognizers find, the surest first; what lies inside another of its kind is still there."""
        reading, tagging = self._tagger.read(text)
        found: list[RecognizerResult] = []
        for recognizer in self._readers[language]:
            if recognizer.may_find_in(reading):
                found += recognizer.results_in(reading, tagging)
        found.sort(key=lambda result: (-result.score, result.start, -result.end))
        return found

    def _enhance_using_context(
        self,
        text: str,
        raw_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,
        recognizers: list[EntityRecognizer],
        context: list[str] | None = None,
    ) -> list[RecognizerResult]:
        return raw_results


class Analyzers(NamedTuple):
    everything: LinearAnalyzer
    patterns: LinearAnalyzer
    """Without names, places and all else that only the words around it tell."""
    parts: LinearAnalyzer
    """For a text that goes on: with names, places and the like that only what is still to come would make sure."""


def build_analyzers(config: PiiConfig, names: NamesConfig) -> Analyzers:
    """Load the tagger and build analyzers for English and Polish.

    Raises:
        ConfigurationError: an entity that is told by its context has no context words.
        ModelUnavailable: a model file cannot be read.
    """
    given_names = GivenNames(names)
    tagger = Tagger.load(shipped(), given_names)
    shaped = [each for language in SUPPORTED_LANGUAGES for each in shaped_for(language, config)]
    whole, in_parts = (
        [each for language in SUPPORTED_LANGUAGES for each in named_for(language, config, given_names, in_parts=parts)]
        for parts in (False, True)
    )
    reads = TaggerEngine(tagger, config.tagger.sub_words)
    return Analyzers(
        LinearAnalyzer([*whole, *shaped], reads),
        LinearAnalyzer(shaped, TaggerEngine(tagger, 0)),
        LinearAnalyzer([*in_parts, *shaped], reads),
    )


def named_for(language: str, config: PiiConfig, given_names: GivenNames, *, in_parts: bool) -> list[TextRecognizer]:
    """Return the recognizers of names, places and all else that only the words around it tell; `in_parts` for texts
    that go on."""
    share = OF_A_PART if in_parts else 1
    return _looked_for(
        [
            KnownNameRecognizer(language, given_names, asks_tagger=not in_parts),
            *(TaggedRecognizer(language, entity, share * least) for entity, least in config.tagger.at_least.items()),
        ],
        config,
    )


def shaped_for(language: str, config: PiiConfig) -> list[TextRecognizer]:
    """Return the recognizers of what has a shape of its own.

    Raises:
        ConfigurationError: an entity that is told by its context has no context words.
    """
    read = _read_in(language, config)
    regions = next(regions for code, regions in config.phone_regions.items() if code == language)
    built = [kind(language, _words(kind, read[kind.entity])) for kind in PATTERN_RECOGNIZERS if kind.entity in read]
    return _looked_for([PhoneRecognizer(language, regions), *built], config)


def _looked_for(built: Iterable[TextRecognizer], config: PiiConfig) -> list[TextRecognizer]:
    """Return those whose entity is read in their language, each with its threshold."""
    looked_for: list[TextRecognizer] = []
    for recognizer in built:
        entity = _read_in(recognizer.supported_language, config).get(recognizer.entity)
        if entity is not None:
            recognizer.report_from(entity.threshold)
            looked_for.append(recognizer)
    return looked_for


def _read_in(language: str, config: PiiConfig) -> dict[str, EntityConfig]:
    return {str(entity): each for entity, each in config.entities.items() if each.is_read_in(language)}


def _words(recognizer: type[TextRecognizer], config: EntityConfig) -> list[str]:
    if recognizer.context_window is not None and not config.words:
        field = f"entities.{recognizer.entity}.context"
        raise ConfigurationError(f"{CONFIG_NAME} cannot be used: {field}: must name words", field=field)
    return config.words
