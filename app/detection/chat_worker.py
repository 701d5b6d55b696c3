"""The detection stage for chats: every message by its role, what several say together, tool calls and results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from app.chat import MESSAGE_SEPARATOR, TEXT_SEPARATOR, ChatMessage, Role, Utterance, utterances
from app.contracts import (
    MAX_LISTED_SPANS,
    SOURCE_OF,
    CallPlace,
    DecideJob,
    DetectionReport,
    Envelope,
    GuardRequest,
    Judge,
    MessageReport,
    Mode,
    PartShape,
    PiiReport,
    ScanJob,
    Source,
    Stretch,
)
from app.detection.leak_worker import holding_secrets
from app.detection.leaks import Leak, with_leaks
from app.pinned import DetectionRules

TOGETHER_LIMIT: Final = 2_000
"""Longest text, in code points, of a user's messages in a row that are also read as one."""

Detect = Callable[[GuardRequest, Envelope, DetectionRules], Awaitable[ScanJob | DecideJob]]
LeaksTogether = Callable[[GuardRequest, Sequence[str]], Awaitable[list[tuple[int, Leak]]]]
"""Returns what several outputs of a chat give away together, with the number of the text that holds each part."""


@dataclass(frozen=True, slots=True)
class ChatWorker:
    """Lets `detect` judge a text, and `detect_again` each message of a chat, most of which it has seen before."""

    pin: Callable[[GuardRequest], Awaitable[DetectionRules]]
    """Which version of which policy a request is judged by, in all its messages and in all later stages."""
    detect: Detect
    detect_again: Detect
    hash_key: bytes
    model_version: str
    scans_fast_mode: bool = False
    """Whether chats of fast mode go to the scan for personal data too."""
    leaks_together: LeaksTogether | None = None
    """None where nothing is secret."""

    async def __call__(self, request: GuardRequest, envelope: Envelope) -> ScanJob | DecideJob:
        """Judge.

        Raises:
            InvalidRequest: the request names a policy that does not exist.
        """
        rules = await self.pin(request)
        if request.messages is None:
            return await self.detect(request, envelope, rules)
        subject = rules.subject_of(request, self.hash_key)
        detection = DetectionReport(branches={}, model_version=self.model_version)
        with holding_secrets():
            conversation = await self._reports(request, envelope, rules)
        if subject.mode is Mode.FULL or self.scans_fast_mode:
            return ScanJob(
                text=request.whole_text,
                language=request.language,
                allow_list=request.allow_list,
                restorable=request.restorable,
                restore_map=request.restore_map,
                subject=subject,
                detection=detection,
                conversation=conversation,
            )
        return DecideJob(
            subject=subject, detection=detection, pii=PiiReport(), redacted_text=None, conversation=conversation
        )

    async def _reports(self, request: GuardRequest, envelope: Envelope, rules: DetectionRules) -> list[MessageReport]:
        messages = request.messages or []
        judged = judged_messages(messages, request.judge)
        prompts = [message.text for message in messages if message.role.instructs]
        secret = TEXT_SEPARATOR.join(filter(None, [request.system_prompt, *prompts])) or None
        common = {"messages": None, "system_prompt": secret, "mode": rules.mode_of(request)}

        async def judge(text: str, source: Source) -> DetectionReport:
            asked = request.model_copy(update=common | {"text": text, "source": source})
            return (await self.detect_again(asked, envelope, rules)).detection

        room = MAX_LISTED_SPANS
        reports: list[MessageReport] = []
        outputs: dict[int, str] = {}
        said = list(utterances(messages))
        for each, texts in zip(said, stretches(said), strict=True):
            message, call = each.message, each.call
            detection = together = None
            source = SOURCE_OF[message.role]
            if call is not None and not call.is_refusal:
                source = Source.TOOL if call.is_result else Source.OUTPUT
            if source is Source.OUTPUT and each.text.strip():
                outputs[len(reports)] = each.text
            if each.index in judged and each.text.strip():
                detection = await judge(each.text, source)
                detection = detection.model_copy(update={"findings": detection.findings[:room]})
                room -= len(detection.findings)
                joined = said_together(messages, each.index) if call is None else None
                if joined is not None:
                    together = (await judge(joined, Source.INPUT)).model_copy(update={"findings": []})
            content = message.content if call is None else None
            reports.append(
                MessageReport(
                    role=message.role,
                    texts=texts,
                    parts=[PartShape(type=part.type, holds=part.holds) for part in content]
                    if isinstance(content, list)
                    else None,
                    not_judged=message.not_judged if call is None else [],
                    left_as_it_is=message.role.instructs and not request.redact_system,
                    detection=detection,
                    together=together,
                    call=CallPlace(path=call.path, pointers=each.pointers or []) if call is not None else None,
                )
            )
        asked = request.model_copy(update=common)
        return await self._with_leaks_together(asked, reports, outputs)

    async def _with_leaks_together(
        self, request: GuardRequest, reports: list[MessageReport], outputs: dict[int, str]
    ) -> list[MessageReport]:
        """Add what the outputs give away together to the reports of those that are judged and hold a part of it.

        Args:
            request: with the system prompt that its messages are compared with.
            reports: of the conversation.
            outputs: texts of the outputs, by the place of their report.
        """
        judged = [detection for place in outputs if (detection := reports[place].detection) is not None]
        if self.leaks_together is None or len(outputs) < 2 or not judged or any(each.leaked for each in judged):
            return reports
        places, parts = list(outputs), defaultdict(list)
        for number, leak in await self.leaks_together(request, list(outputs.values())):
            parts[places[number]].append(leak)
        for place, leaks in parts.items():
            if (detection := reports[place].detection) is not None:
                reports[place] = reports[place].model_copy(update={"detection": with_leaks(detection, leaks)})
        return reports


def judged_messages(messages: Sequence[ChatMessage], judge: Judge) -> frozenset[int]:
    """Return the indexes of the messages that are judged: those that say something, but for the system's.

    An assistant's message without a text, such as one that its model is to continue, ends no turn.
    """
    spoken = [index for index, message in enumerate(messages) if not message.role.instructs]
    if judge is Judge.LAST:
        spoken = [
            index for index in spoken if messages[index].role is not Role.ASSISTANT or messages[index].says_something
        ]
        last = spoken[-1:]
        if messages[last[0]].role is not Role.ASSISTANT:
            for index in reversed(spoken[:-1]):
                if messages[index].role is Role.ASSISTANT:
                    break
                last.append(index)
        spoken = last
    return frozenset(index for index in spoken if messages[index].says_something)


def said_together(messages: Sequence[ChatMessage], index: int) -> str | None:
    """Return the text of a user's last message of several in a row with those before it: an attack may be split over
    them. None where there is only one, more follow, or they are long; messages without a text do not count."""
    if messages[index].role is not Role.USER or any(_users_texts(messages[index + 1 :])):
        return None
    texts = list(_users_texts(reversed(messages[: index + 1])))
    joined = TEXT_SEPARATOR.join(reversed(texts))
    return joined if len(texts) > 1 and len(joined) <= TOGETHER_LIMIT else None


def _users_texts(messages: Iterable[ChatMessage]) -> Iterator[str]:
    """Yield the texts of the messages before the first that says something and is not a user's."""
    for message in takewhile(lambda message: message.role is Role.USER or not message.says_something, messages):
        if message.role is Role.USER and (text := message.text).strip():
            yield text


def stretches(said: Sequence[Utterance]) -> Iterator[list[Stretch]]:
    """Yield where the texts of each utterance stand in the conversation's text; one without any has an empty one."""
    position = 0
    for each in said:
        places: list[Stretch] = []
        for text in each.texts or [""]:
            places.append((position, position + len(text)))
            position += len(text) + len(TEXT_SEPARATOR)
        yield places
        position += len(MESSAGE_SEPARATOR) - len(TEXT_SEPARATOR)
