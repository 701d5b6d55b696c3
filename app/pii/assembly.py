"""Puts Presidio's analyzer together from this project's recognizers, one set for each language."""

from __future__ import annotations

from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts

from app.pii.config import NamesConfig, PiiConfig
from app.pii.language import SUPPORTED_LANGUAGES
from app.pii.ner import EnglishNer
from app.pii.recognizers.credit_card import CreditCardRecognizer
from app.pii.recognizers.crypto import WalletRecognizer
from app.pii.recognizers.email_address import EmailRecognizer
from app.pii.recognizers.iban import IbanRecognizer
from app.pii.recognizers.ip_address import IpAddressRecognizer
from app.pii.recognizers.known_names import GivenNames, KnownNameRecognizer
from app.pii.recognizers.model_names import ModelNameRecognizer
from app.pii.recognizers.phone import PhoneRecognizer
from app.pii.recognizers.pl_id_card import PolishIdCardRecognizer
from app.pii.recognizers.pl_nip import NipRecognizer
from app.pii.recognizers.pl_pesel import PeselRecognizer
from app.pii.recognizers.pl_regon import RegonRecognizer
from app.pii.recognizers.url import CredentialUrlRecognizer
from app.pii.recognizers.us_ssn import SsnRecognizer


class ContextAlreadyUsed(ContextAwareEnhancer):
    """Changes nothing: recognizers read their context words themselves, in time linear in the number of values."""

    def __init__(self) -> None:
        super().__init__(0.0, 0.0, 0, 0)

    def enhance_using_context(
        self,
        text: str,
        raw_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,
        recognizers: list[EntityRecognizer],
        context: list[str] | None = None,
    ) -> list[RecognizerResult]:
        return raw_results


def build_analyzer(config: PiiConfig, names: NamesConfig) -> AnalyzerEngine:
    """Load the model and build an analyzer for English and Polish.

    Raises:
        ModelUnavailable: the language model is not installed or cannot be read.
    """
    ner = EnglishNer(config.ner.languages, config.ner.token_budget)
    ner.load()
    given_names = GivenNames(names)
    thresholds = {entity: entity_config.threshold for entity, entity_config in config.entities.items()}
    recognizers: list[EntityRecognizer] = []
    for language in SUPPORTED_LANGUAGES:
        recognizers += _recognizers(language, config, given_names)
    for recognizer in recognizers:
        recognizer.score_thresholds = {
            entity: thresholds[entity] for entity in recognizer.supported_entities if entity in thresholds
        }
    return AnalyzerEngine(
        registry=RecognizerRegistry(recognizers=recognizers, supported_languages=list(SUPPORTED_LANGUAGES)),
        nlp_engine=ner,
        supported_languages=list(SUPPORTED_LANGUAGES),
        context_aware_enhancer=ContextAlreadyUsed(),
    )


def _recognizers(language: str, config: PiiConfig, given_names: GivenNames) -> list[EntityRecognizer]:
    regions = next(regions for code, regions in config.phone_regions.items() if code == language)
    return [
        PeselRecognizer(language),
        NipRecognizer(language),
        RegonRecognizer(language),
        PolishIdCardRecognizer(language),
        CreditCardRecognizer(language),
        IbanRecognizer(language),
        IpAddressRecognizer(language),
        EmailRecognizer(language),
        CredentialUrlRecognizer(language),
        WalletRecognizer(language),
        SsnRecognizer(language),
        PhoneRecognizer(language, regions),
        KnownNameRecognizer(language, given_names),
        ModelNameRecognizer(language, config.ner.score, given_names),
    ]
