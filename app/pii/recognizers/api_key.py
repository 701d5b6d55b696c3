"""Recognizes secrets that people paste into prompts: API keys, tokens, private keys, connection strings."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from app.pii.reading import Reading, anchored, in_stretches
from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.recognizers.randomness import (
    bits_per_character,
    has_mixed_cases_or_is_hexadecimal,
    is_placeholder,
    is_word,
    looks_random,
)
from app.pii.words import words

_END: Final = r"(?![\w-])"
_PREFIXED: Final = re.compile(
    r"(?<![^\W_])(?<![/.-])(?:"
    r"sk-(?:ant|proj|svcacct|admin)-[A-Za-z0-9_-]{20,200}|"
    # AWS (IAM unique identifiers), Google Cloud, Azure.
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}|AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}|ya29\.[A-Za-z0-9_-]{30,300}|"
    r"[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}|"
    # Source code and packages: GitHub, GitLab, npm, PyPI, RubyGems, crates.io, Docker Hub.
    r"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,250}|gl(?:pat|dt|rt|ptt|agent|cbt)-[A-Za-z0-9_-]{20,60}|"
    r"npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,250}|rubygems_[0-9a-f]{48}|cio[A-Za-z0-9]{32}|"
    r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,60}|"
    # Chat, mail and payment: Slack, Telegram, Discord, SendGrid, Mailgun, Twilio, Square, Shopify, Brevo.
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}|xapp-[0-9]-[A-Za-z0-9-]{10,250}|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}|"
    r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}|"
    r"key-[0-9a-f]{32}|(?:AC|SK)[0-9a-f]{32}|sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}|EAAA[A-Za-z0-9_-]{60}|"
    r"shp(?:at|ca|pa|ss|tka)_[0-9a-fA-F]{32}|xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}|"
    # Machine learning and data: Hugging Face, Replicate, Groq, Perplexity, xAI, Databricks, Pinecone, Supabase.
    r"hf_[A-Za-z]{34}|r8_[A-Za-z0-9]{37}|gsk_[A-Za-z0-9]{52}|pplx-[A-Za-z0-9]{48,56}|xai-[A-Za-z0-9]{80}|"
    r"dapi[0-9a-f]{32}(?:-[0-9])?|pcsk_[A-Za-z0-9_]{50,90}|sb(?:p|_secret|_publishable)_[A-Za-z0-9_-]{20,60}|"
    # Operations: DigitalOcean, Linear, Notion, Postman, New Relic, Grafana, Vault, Terraform, Sentry, Doppler,
    # Airtable, PostHog, age.
    r"do[opr]_v1_[0-9a-f]{64}|lin_api_[A-Za-z0-9]{40}|(?:ntn|secret)_[A-Za-z0-9]{40,50}|PMAK-[0-9a-f]{24}-[0-9a-f]{34}|"
    r"NR(?:AK|II|JS)-[A-Z0-9a-z]{19,32}|gl(?:sa|c)_[A-Za-z0-9+/=_]{32,200}|hv[sbr]\.[A-Za-z0-9_-]{24,200}|"
    r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,70}|sntr[yu]s_[A-Za-z0-9+/=_-]{40,250}|"
    r"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9]{40,44}|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}|phc_[A-Za-z0-9]{43}|"
    r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"
    rf"){_END}"
)
"""Prefixes as each company publishes them, most of them for GitHub's secret scanning partner programme."""
_LONG_RUN: Final = re.compile(r"[\w./+=:-]{16}")
"""No key is shorter; most texts have no such run and are spared the list."""
_LOOSE: Final = re.compile(
    r"(?<![^\W_])(?<![/.-])(?:sk-(?:or-v1-)?[A-Za-z0-9_-]{20,200}|"
    rf"[a-z]{{2,5}}[-_](?:(?:test|live|demo|fake|prod|sandbox|dev|staging)[-_]){{1,2}}[A-Za-z0-9]{{16,250}}){_END}"
)
"""OpenAI's older form, which many take over, and Stripe's: kind, environment, random characters. Names of branches and
machines look alike, so these have to look more random."""
_TOKEN: Final = re.compile(r"(?<![\w-])eyJ[A-Za-z0-9_-]{6,2000}\.[A-Za-z0-9_-]{4,8000}(?:\.[A-Za-z0-9_-]{0,2000}){1,3}")
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END_OF_KEY: Final = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BETWEEN_LINES: Final = r"(?:\\[nr]|[^A-Za-z0-9/=\\]){1,40}(?:[0-9]{1,4}\W{1,3})?"
"""Lines may be indented, quoted, numbered, or strings of a program."""
_LINES_OF_KEY: Final = re.compile(
    r"(?:\s{1,4}(?:[A-Za-z-]{4,20}: [^\n]{1,80}|[A-Za-z0-9+/=]{12,128}(?!\S))|"
    rf"{_BETWEEN_LINES}(?:(?:Proc-Type|DEK-Info|Version|Comment): [^\n]{{1,80}}|"
    r"[A-Za-z0-9+/=]{20,128}(?![A-Za-z0-9+/=]))){1,200}"
)
_CONNECTION: Final = anchored(
    r"(?<![^\W_])(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|sqlserver|oracle|clickhouse|nats|tls|kafka|"
    r"ldaps?|smtps?|imaps?|ftps?|sftp|ssh|jdbc:[a-z0-9]{1,16})(?:\+[a-z0-9]{1,16})?://"
    r"[^\s\"'<>`/@:]{0,128}:(?P<password>[^\s\"'<>`/@]{1,256})@[^\s\"'<>`]{1,512}",
    re.IGNORECASE,
    keys=words("po my ma mo re am ms sq or cl na tl ka ld sm im ft sf ss jd"),
    needs=("://",),
)
_CONNECTION_FIELD: Final = anchored(
    r"(?<![^\W_])(?:AccountKey|SharedAccessKey|Pwd|Password)=(?P<value>[^;\s\"']{4,256})(?=;)",
    re.IGNORECASE,
    keys=words("ac sh pw pa"),
    needs=("=",),
)
_AUTHORIZATION: Final = anchored(
    r"(?<![^\W_])(?:(?:proxy-)?authorization[\"']?[ ]{0,2}[:=][ ]{0,2}[\"']?"
    r"(?:bearer|basic|token|apikey|digest|negotiate)[ ]{1,2}|(?P<alone>bearer[ ]{1,2}))"
    r"(?P<value>[A-Za-z0-9._~+/=-]{8,4000})",
    re.IGNORECASE,
    keys=words("pr au be"),
)
_ASSIGNED: Final = anchored(
    r"(?<![A-Za-z])(?:(?:api|access|secret|private|encryption|signing)[_-]?key|client[_-]?secret|secret|token|auth|"
    r"credentials?|klucz(?:[_-]?api)?)(?:[_-][A-Za-z0-9]{1,12}){0,2}[\"'`]?"
    r"[ ]{0,3}(?::=|=>|[:=])[ ]{0,3}[\"'`]?(?P<value>[A-Za-z0-9+/=_.~!@#$%^&*-]{10,512})",
    re.IGNORECASE,
    parts=(
        "api",
        "access",
        "secret",
        "private",
        "encryption",
        "signing",
        "client",
        "token",
        "auth",
        "credential",
        "klucz",
    ),
    needs=(":", "="),
)
_COOKIES: Final = anchored(
    r"(?<![^\W_])(?:set-)?cookie[\"']?[ ]{0,2}:[ ]{0,2}[\"']?(?P<pairs>[^\n\"']{16,4000})",
    re.IGNORECASE,
    keys=words("co se"),
    needs=("cookie",),
)
_SESSION: Final = re.compile(
    r"(?<![\w.-])[\w.-]{0,32}(?:sess|sid|token|auth|jwt|remember|csrf|xsrf)[\w.-]{0,32}=(?P<value>[^;,\s]{12,2000})",
    re.IGNORECASE,
)
"""Cookies by which somebody is logged in, by their names; those that count visits are none."""
_LEAST_BITS_BEHIND_PREFIX: Final = 2.5
"""Below it lie rows of one letter, as documentation writes them."""
_SHORTEST_ALONE: Final = 16
"""Characters of a value behind "bearer" without the header's name."""
_CALL: Final = re.compile(r"[(\[{]")
_WEBHOOK: Final = re.compile(
    r"https://(?:hooks\.slack\.com/(?:services|workflows)|discord(?:app)?\.com/api/webhooks|"
    r"[a-z0-9-]{1,60}\.webhook\.office\.com)/[A-Za-z0-9_/@.-]{20,300}"
)


class SecretRecognizer(TextRecognizer):
    """What has a published form needs no word beside it; anything else must be assigned to a name and look random."""

    entity = "API_KEY"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        if any(_LONG_RUN.search(text, *stretch) for stretch in reading.stretches):
            yield from _published_forms(reading)
        if "PRIVATE KEY" in text:
            yield from _private_keys(text)
        yield from _connections(reading)
        for match in _AUTHORIZATION.finditer(reading):
            value = match["value"]
            sure = (
                not is_word(value) if match["alone"] is None else len(value) >= _SHORTEST_ALONE and looks_random(value)
            )
            if sure and not is_placeholder(value):
                yield Candidate(*match.span("value"), score=0.95)
        for cookies in _COOKIES.finditer(reading):
            for match in _SESSION.finditer(text, *cookies.span("pairs")):
                if looks_random(match["value"]) and not is_placeholder(match["value"]):
                    yield Candidate(*match.span("value"), score=0.85)
        for match in _ASSIGNED.finditer(reading):
            value = match["value"].rstrip(".!")
            if looks_random(value) and not _CALL.match(text, match.end()) and not is_placeholder(value):
                yield Candidate(match.start("value"), match.start("value") + len(value), score=0.85)


def _published_forms(reading: Reading) -> Iterator[Candidate]:
    for match in in_stretches(_PREFIXED, reading):
        if bits_per_character(match[0]) >= _LEAST_BITS_BEHIND_PREFIX:
            yield Candidate(*match.span(), score=0.95)
    for match in in_stretches(_LOOSE, reading):
        if looks_random(match[0]) and has_mixed_cases_or_is_hexadecimal(match[0]):
            yield Candidate(*match.span(), score=0.9)
    for match in in_stretches(_TOKEN, reading):
        if _is_json_web_token(match[0]):
            yield Candidate(*match.span(), score=0.98)
    for match in in_stretches(_WEBHOOK, reading):
        yield Candidate(*match.span(), score=0.98)


def _is_json_web_token(value: str) -> bool:
    """Whether the first part is the header of a JSON Web Token (RFC 7519, RFC 7515: base64url JSON with "alg")."""
    header = value.partition(".")[0]
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(decoded, dict) and "alg" in decoded


def _private_keys(text: str) -> Iterator[Candidate]:
    """Yield private keys in the PEM form of RFC 7468, also when the end was cut off."""
    position = 0
    while (begin := _PRIVATE_KEY.search(text, position)) is not None:
        following = _PRIVATE_KEY.search(text, begin.end())
        end = _END_OF_KEY.search(text, begin.end(), following.start() if following else len(text))
        lines = None if end else _LINES_OF_KEY.match(text, begin.end())
        position = end.end() if end else lines.end() if lines else begin.end()
        yield Candidate(begin.start(), position, score=1.0)


def _connections(reading: Reading) -> Iterator[Candidate]:
    for match in _CONNECTION.finditer(reading):
        if not is_placeholder(match["password"]):
            length = len(match[0].rstrip(".,;:!?)]}"))
            yield Candidate(match.start(), match.start() + length, score=0.98)
    for match in _CONNECTION_FIELD.finditer(reading):
        if not is_placeholder(match["value"]):
            yield Candidate(*match.span("value"), score=0.9)
