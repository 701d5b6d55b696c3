"""Recognizes user names where a label, a path, a command or a chat says that one stands there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.words import words

_NAME: Final = r"[^\W_][\w.-]{1,38}[\w]"
_LABELLED: Final = anchored(
    r"(?<![^\W_])(?:user[ _-]?name|login|nick(?:name)?|screen[ _-]?name|handle|gamer[ _-]?tag|nazwa[ _-]u[zż]ytkownika)"
    rf"[\"'`]?[ ]{{0,2}}[:=][ ]{{0,2}}(?P<quote>[\"'`„“]?)(?P<value>@?{_NAME})(?![\w@(\[/\\])"
    r"(?P<follows>[ ][^\W\d_])?",
    re.IGNORECASE,
    keys=words("us lo ni sc ha ga na"),
    needs=(":", "="),
)
_TOLD: Final = anchored(
    r"(?<![^\W_])(?:user(?:[ ]?name)?|u[zż]ytkownik\w*|login\w{0,3}|log in|nick\w{0,4}|handle|tag|gamertag|account|"
    r"konto|discord\w?|insta(?:gram\w{0,2})?|twitter\w?|tik ?tok\w?|snap(?:chat)?|reddit\w?|steam\w?|psn|xbox|"
    r"minecraft|roblox|twitch\w?|telegram\w?|github\w?|gitlab\w?|switch|olx|allegro|vinted)"
    r"(?:[ ](?:name|nick|handle|account|id|do systemu|na \w{2,12})){0,2}[ ]?"
    r"(?:(?:[:,]|is|was|to|as|jest|jako|mam|i'm|im)[ ]{1,2}|[ ]?\(?(?:login|nick)?[ ]?|[ ])"
    rf"(?<!\w)[\"'`„“<(]?(?P<value>@?{_NAME})(?![\w@(\[/\\])",
    re.IGNORECASE,
    keys=words("us uz uż lo ni ha ta ga ac ko di in tw ti sn re st ps xb mi ro te gi sw ol al vi"),
)
_HOME: Final = anchored(
    rf"(?:(?<![\w.])/(?:home|Users)/|(?<![^\W_])[A-Za-z]:[\\/]{{1,2}}Users[\\/]{{1,2}})(?P<value>{_NAME})"
    r"(?=[\\/\s\"':;,)]|\Z)",
    needs=("/home/", "users"),
)
_REMOTE: Final = anchored(
    rf"(?<![^\W_])(?:ssh|scp|sftp|rsync|mosh|ssh-copy-id)[ ](?:[^\s@]{{1,40}}[ ]){{0,4}}?"
    rf"(?P<value>{_NAME})@(?=[A-Za-z0-9])",
    keys=words("ss sc sf rs mo"),
    needs=("@",),
)
_LOGGED: Final = anchored(
    rf"(?<![^\W_])(?:(?:Accepted|Failed) (?:publickey|password|keyboard-interactive\S{{0,6}}) for (?:invalid user )?|"
    rf"session (?:opened|closed) for user |sudo: {{1,8}}|Invalid user )(?P<value>{_NAME})(?=[\s(:]|\Z)",
    keys=words("ac fa se su in"),
)
_TO_DO: Final = anchored(
    rf"(?<![^\W_])(?:TODO|FIXME|XXX|HACK)[ ]?\([ ]?@?(?P<value>{_NAME})[ ]?\)[ ]?:",
    keys=words("to fi xx ha"),
    needs=("(",),
)
_CHAT: Final = re.compile(
    r"(?:^|\n|(?<=\] )|(?<=\d )|(?<= ))<(?P<value>[A-Za-z][\w.-]{2,30})>[ ](?=[^\s<])",
)
_CLOSING_TAG: Final = re.compile(r"</([A-Za-z][\w.-]{0,30})")
_PLACEHOLDER: Final = re.compile(r"[A-Z][A-Z_]*_?[0-9]*")
"""As this project and others write them: <PERSON_1>, <NAME>."""
_REDDIT: Final = anchored(r"(?<![\w/.])/?(?P<value>u/[A-Za-z0-9_-]{3,20})(?![\w/-])", needs=("u/",))
_AT: Final = re.compile(r"(?<![\w.@/\\-])(?P<value>@[A-Za-z0-9_](?=[\w.]{0,28}[0-9_.])[\w.]{1,28}\w)(?![\w@(/\\-])")
_LINE_START: Final = re.compile(r"(?:\A|\n)[ \t]*\Z")
SHARED: Final = words(
    "root admin administrator guest user username users test tester system default public shared all anonymous nobody "
    "ubuntu debian centos fedora ec2-user vagrant pi git www www-data app runner jenkins circleci node nginx postgres "
    "mysql redis oracle deploy deployer ansible docker service support info contact none null nil undefined true false "
    "string required optional empty str int text varchar password login nick handle name your yourname your_name "
    "your_username example foo bar jdoe john.doe johndoe nazwa uzytkownik użytkownik brak hasło haslo"
)
"""Names of accounts that belong to nobody, and what stands for one in instructions."""
_TAGS: Final = words(
    "html head body title div span table thead tbody tr td th ul ol li img input form label button select option "
    "section article header footer main nav aside pre code script style link meta br hr em strong small sub sup svg "
    "path video audio canvas iframe blockquote details summary dialog template slot think thinking answer question "
    "context instructions system user assistant document documents example examples output input text message query "
    "prompt response result tool name type int str float bool string void char double list map set vector"
)
_FILE: Final = re.compile(
    r"\.(?:py|js|ts|tsx|jsx|json|ya?ml|txt|md|csv|xlsx?|docx?|pdf|png|jpe?g|gif|svg|html?|css|sh|java|go|rs|rb|php|sql|"
    r"xml|log|zip|gz|com|org|net|io|pl|uk|de|eu|dev|app|example|co)\Z",
    re.IGNORECASE,
)
_DECORATED: Final = re.compile(r"(?=.*[^\W\d_])(?:.*[0-9_]|.*[^\W\d_]\.[^\W\d_]|.*[a-z][A-Z]|.*[a-z]-[0-9])")
"""What an ordinary word has not: digits, underscores, dots or humps beside its letters."""


class UsernameRecognizer(TextRecognizer):
    """Behind a label with a colon any word counts; told in a sentence, one that looks like no ordinary word."""

    entity = "USERNAME"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _LABELLED.finditer(reading):
            plain = match["value"].lstrip("@")
            if match["quote"] or match["follows"] is None or _DECORATED.match(plain):
                yield from _candidate(match, 0.75)
        for match in chain(_TOLD.finditer(reading), _TO_DO.finditer(reading)):
            if _DECORATED.match(match["value"]):
                yield from _candidate(match, 0.75)
        for match in chain.from_iterable(each.finditer(reading) for each in (_HOME, _REMOTE, _LOGGED, _REDDIT)):
            yield from _candidate(match, 0.75)
        if "<" in text:
            elements = {*_TAGS, *(match[1].lower() for match in _CLOSING_TAG.finditer(text))}
            for match in _CHAT.finditer(text):
                if match["value"].lower() not in elements and not _PLACEHOLDER.fullmatch(match["value"]):
                    yield from _candidate(match, 0.7)
        if "@" in text:
            for match in _AT.finditer(text):
                if not _LINE_START.search(text[max(0, match.start() - 20) : match.start()]):
                    yield from _candidate(match, 0.55)


def _candidate(match: re.Match[str], score: float) -> Iterable[Candidate]:
    value = match["value"]
    plain = value.lstrip("@")
    if (
        plain.lower() not in SHARED
        and not plain.replace(".", "").replace("-", "").isdigit()
        and not _FILE.search(plain)
    ):
        yield Candidate(*match.span("value"), score=score)
