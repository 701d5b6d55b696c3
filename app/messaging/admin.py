"""What operators ask of NATS: streams, consumers and live messages, with the service's own settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.errors import APIError
from nats.protocol.parser import PERMISSIONS_ERR

from app.admin_contracts import AuditEvent, AuditPage
from app.errors import (
    DecisionTimeout,
    EventLogUnavailable,
    MessagingUnavailable,
    Overloaded,
    PayloadTooLarge,
    QueryTimeout,
    ServerRefusal,
    UnknownResource,
)
from app.identity import now
from app.messaging import audit
from app.messaging.connection import connect
from app.messaging.declarations import Declarations, consumer_config
from app.messaging.questions import RemoteArchive, ask_for_decision
from app.messaging.reconciliation import Reconciliation
from app.messaging.reports import (
    ConsumerReport,
    Reconciled,
    ServerReport,
    ServiceInstance,
    StreamReport,
    WatchedMessage,
    differences,
)
from app.settings import Settings
from app.topology import BUCKETS, CONSUMERS, SERVICE, STREAMS, TOPOLOGY_VERSION, Header, Subject, version_of

BUCKET_OF: Final = {bucket.stream: bucket.name for bucket in BUCKETS}
"""Name of each bucket by the stream under it."""
NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class Reply:
    """What a micro service answered."""

    payload: bytes
    error_code: str | None
    """The status of the problem, None for an answer."""


class Admin:
    """Reads and changes what the service keeps in NATS; one connection, made by `opened`."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.jetstream = client.jetstream(timeout=settings.nats.publish_timeout_s)
        self.archive = RemoteArchive(client, settings.event_log.query_timeout_s)
        self._timeout_s = settings.nats.publish_timeout_s
        self._declarations = Declarations(settings.nats.replicas, settings.decisions.ttl_s)

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, settings: Settings, server: str | None = None) -> AsyncIterator[Admin]:
        """Connect, and close at the end.

        Args:
            settings: the service's.
            server: addresses in place of the configured ones.

        Raises:
            MessagingUnavailable: no server answers.
        """
        client = await connect(settings, server)
        try:
            yield cls(client, settings)
        finally:
            await client.close()

    async def ask(self, verb: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the JetStream API, as `STREAM.INFO.<name>`, and return its answer as JSON.

        nats-py's own calls leave out times of streams (`first_ts`, `last_ts`), which is why this one is here.

        Raises:
            UnknownResource: the server does not have what was asked for.
            ServerRefusal: the server says no.
            MessagingUnavailable: no answer; JetStream may be off, or the user may not ask.
        """
        body = json.dumps(question).encode() if question is not None else b""
        subject = f"$JS.API.{verb}"
        try:
            reply = await self.client.request(subject, body, timeout=self._timeout_s)
        except NoRespondersError:
            raise MessagingUnavailable("the server answers, but JetStream is not enabled on it") from None
        except (NatsError, TimeoutError) as error:
            if self._may_not_ask(subject):
                said = f"the server lets this user not ask {subject}: sign in as `operator`, or one who may do the same"
                raise MessagingUnavailable(said) from None
            raise MessagingUnavailable(f"no answer from the server: {type(error).__name__}") from None
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            refusal = answer["error"]
            description = str(refusal.get("description", "refused"))
            raise (UnknownResource if refusal.get("code") == NOT_FOUND else ServerRefusal)(description)
        return answer

    def _may_not_ask(self, subject: str) -> bool:
        """Whether the server has refused a question; it says so beside the answer that does not come."""
        told = str(self.client.last_error or "").lower()
        return PERMISSIONS_ERR in told and f'"{subject.lower()}"' in told

    async def server(self) -> ServerReport:
        """Return the server's state.

        Raises:
            MessagingUnavailable: JetStream is not enabled.
        """
        started = time.perf_counter()
        account = await self.ask("INFO")
        round_trip_ms = (time.perf_counter() - started) * 1000
        url = self.client.connected_url
        limit = int(account["limits"]["max_storage"])
        return ServerReport(
            url=f"{url.scheme}://{url.hostname}:{url.port}" if url is not None else "",
            name=str(self.client._server_info.get("server_name", "")),
            version=str(self.client.connected_server_version).removeprefix("<nats server v").removesuffix(">"),
            round_trip_ms=round(round_trip_ms, 2),
            max_payload=self.client.max_payload,
            storage_bytes=int(account["storage"]),
            storage_limit=limit if limit >= 0 else None,
        )

    async def streams(self) -> list[StreamReport]:
        """Return all streams of the account, those of the topology first."""
        found = [self._stream(info) for info in await self._pages("STREAM.LIST", "streams")]
        if any(each.name in BUCKET_OF for each in found):
            # Only the reconciliation knows what the stream under a bucket should look like.
            would = await self.reconcile(dry_run=True, lower_replicas=True)
            planned = {each.name: each.differences for each in would.changes}
            found = [
                replace(each, differences=planned.get(BUCKET_OF[each.name], ())) if each.name in BUCKET_OF else each
                for each in found
            ]
        order = [*(spec.name for spec in STREAMS), *BUCKET_OF]
        return sorted(found, key=lambda each: (not each.declared, order.index(each.name) if each.declared else 0))

    async def stream(self, name: str) -> StreamReport:
        """Return one stream.

        Raises:
            UnknownResource: there is none of this name.
        """
        return self._stream(await self.ask(f"STREAM.INFO.{_token(name)}"))

    async def subject_counts(self, stream: str) -> dict[str, int]:
        """Return how many messages a stream holds under each subject."""
        counts: dict[str, int] = {}
        while True:
            answer = await self.ask(f"STREAM.INFO.{_token(stream)}", {"subjects_filter": ">", "offset": len(counts)})
            page = answer["state"].get("subjects") or {}
            counts |= page
            if not page or len(counts) >= int(answer.get("total", 0)):
                return counts

    async def consumers(self, stream: str | None = None) -> list[ConsumerReport]:
        """Return the consumers of one stream, or of every stream of the topology that exists."""
        names = [stream] if stream is not None else list(dict.fromkeys(spec.stream for spec in CONSUMERS))
        reports: list[ConsumerReport] = []
        for name in names:
            try:
                found = await self._pages(f"CONSUMER.LIST.{_token(name)}", "consumers")
            except UnknownResource:
                if stream is not None:
                    raise
                continue
            reports += [await self._consumer(info) for info in found]
        order = [spec.durable for spec in CONSUMERS]
        return sorted(reports, key=lambda each: (not each.declared, order.index(each.name) if each.declared else 0))

    async def consumer(self, name: str, stream: str | None = None) -> ConsumerReport:
        """Return one consumer; the topology tells its stream where none is named.

        Raises:
            UnknownResource: there is none of this name.
        """
        if stream is None:
            stream = next((spec.stream for spec in CONSUMERS if spec.durable == name), STREAMS[0].name)
        return await self._consumer(await self.ask(f"CONSUMER.INFO.{_token(stream)}.{_token(name)}"))

    async def reconcile(
        self, *, dry_run: bool, lower_replicas: bool = False, lower_version: bool = False
    ) -> Reconciled:
        """Make the server equal to the topology, as the service does at start; return what that took, or would take.

        Args:
            dry_run: change nothing.
            lower_replicas: also take copies away where streams and buckets have more than the settings say, which the
                service never does.
            lower_version: also set back what a later version of the topology has written, which the service never does.

        Raises:
            ServerRefusal: the server refuses a declaration.
            MessagingUnavailable: no answer.
        """
        jetstream = Reconciliation(self.client, timeout_s=self._timeout_s, dry_run=dry_run)
        try:
            left = await self._declarations.reconcile(
                jetstream, lower_replicas=lower_replicas, lower_version=lower_version
            )
        except APIError as error:
            raise ServerRefusal(error.description or type(error).__name__) from None
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable(f"no answer from the server: {type(error).__name__}") from None
        return Reconciled(jetstream.changes, left)

    async def instances(self, *, wait_s: float = 0.5) -> list[ServiceInstance]:
        """Return the service processes that answer a ping within `wait_s` seconds; an empty list when none does."""
        found: list[ServiceInstance] = []
        async for reply in self._replies(f"$SRV.PING.{SERVICE}", wait_s):
            told = json.loads(reply.data)
            found.append(ServiceInstance(id=told["id"], name=told["name"], version=told["version"]))
        return found

    async def guard(self, request: bytes, *, timeout_s: float) -> Reply:
        """Ask the running service for a decision.

        Raises:
            MessagingUnavailable: no service answers.
            DecisionTimeout: no answer within `timeout_s` seconds.
            PayloadTooLarge: the request does not fit a message.
        """
        if len(request) > self.client.max_payload:
            raise PayloadTooLarge(f"the request takes {len(request)} bytes; at most {self.client.max_payload} fit")
        try:
            reply = await self.client.request(Subject.API_GUARD, request, timeout=timeout_s)
        except NoRespondersError:
            raise MessagingUnavailable(f"no service answers {Subject.API_GUARD}: is it running?") from None
        except (NatsError, TimeoutError):
            raise DecisionTimeout(f"no decision within {timeout_s:g} s") from None
        return Reply(reply.data, (reply.headers or {}).get("Nats-Service-Error-Code"))

    async def event_log_fault(self) -> str | None:
        """Return why the service that has the event log open cannot read it, None when it can.

        It is asked for a decision that nobody has: only a log that can be read knows that.
        """
        try:
            await ask_for_decision(self.client, uuid4())
        except (EventLogUnavailable, Overloaded, QueryTimeout) as error:
            return error.message
        return None

    async def audit(self, *, limit: int, cursor: str | None = None, action: str | None = None) -> AuditPage:
        """Return entries of the audit record, newest first; see `audit.entries`."""
        return await audit.entries(self.jetstream, limit=limit, cursor=cursor, action=action)

    async def record(self, event: AuditEvent) -> None:
        """Record an action of whoever runs the command.

        Raises:
            MessagingUnavailable: it is not known that it was stored.
        """
        await audit.record(self.jetstream, event)

    @contextlib.asynccontextmanager
    async def watched(self, subjects: list[str]) -> AsyncIterator[AsyncIterator[WatchedMessage]]:
        """Subscribe beside the workers; give the messages that are published from now on, without an end."""
        arrived: asyncio.Queue[Msg] = asyncio.Queue()

        async def note(message: Msg) -> None:
            arrived.put_nowait(message)

        async def messages() -> AsyncIterator[WatchedMessage]:
            while True:
                yield _watched(await arrived.get())

        subscriptions = [await self.client.subscribe(subject, cb=note) for subject in subjects]
        await self.client.flush()
        try:
            yield messages()
        finally:
            for subscription in subscriptions:
                with contextlib.suppress(NatsError):
                    await subscription.unsubscribe()

    async def _replies(self, subject: str, wait_s: float) -> AsyncIterator[Msg]:
        """Return all replies to one request that come within `wait_s` seconds."""
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        try:
            await self.client.publish(subject, b"", reply=inbox)
            until = time.monotonic() + wait_s
            while (remaining_s := until - time.monotonic()) > 0:
                try:
                    reply = await subscription.next_msg(timeout=remaining_s)
                except (NatsError, TimeoutError):
                    return
                if (reply.headers or {}).get("Status") == "503":
                    return
                yield reply
        finally:
            await subscription.unsubscribe()

    async def _pages(self, verb: str, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.ask(verb, {"offset": len(found)})
            page = answer.get(key) or []
            found += page
            if not page or len(found) >= int(answer["total"]):
                return found

    def _stream(self, info: dict[str, Any]) -> StreamReport:
        config, state = info["config"], info["state"]
        spec = next((each for each in STREAMS if each.name == config["name"]), None)
        declared = self._declarations.stream_config(spec) if spec is not None else None
        newer = _newer(config) if declared is not None or config["name"] in BUCKET_OF else None
        return StreamReport(
            name=config["name"],
            subjects=tuple(config.get("subjects") or ()),
            retention=config["retention"],
            storage=config["storage"],
            replicas=config["num_replicas"],
            messages=state["messages"],
            bytes=state["bytes"],
            max_bytes=config["max_bytes"] if config.get("max_bytes", -1) >= 0 else None,
            consumers=state["consumer_count"],
            first_sequence=state["first_seq"],
            last_sequence=state["last_seq"],
            deleted=state.get("num_deleted", 0),
            first_at=_time(state.get("first_ts")),
            last_at=_time(state.get("last_ts")),
            leader=(info.get("cluster") or {}).get("leader") if (info.get("cluster") or {}).get("name") else None,
            declared=declared is not None or config["name"] in BUCKET_OF,
            differences=differences(declared.as_dict(), config) if declared is not None and newer is None else (),
            config=config,
            newer=newer,
        )

    async def _consumer(self, info: dict[str, Any]) -> ConsumerReport:
        config = info["config"]
        name, stream = info["name"], info["stream_name"]
        spec = next((each for each in CONSUMERS if (each.durable, each.stream) == (name, stream)), None)
        declared = consumer_config(spec) if spec is not None else None
        newer = _newer(config) if declared is not None else None
        filters = tuple(
            config.get("filter_subjects") or ([config["filter_subject"]] if config.get("filter_subject") else [])
        )
        pending, ack_pending = info["num_pending"], info["num_ack_pending"]
        delivered, ack_floor = info["delivered"], info["ack_floor"]
        oldest_s = await self._age_s(stream, filters, ack_floor["stream_seq"] + 1) if pending or ack_pending else 0.0
        pending_s = await self._age_s(stream, filters, delivered["stream_seq"] + 1) if pending else 0.0
        return ConsumerReport(
            stream=stream,
            name=name,
            filter_subjects=filters,
            pending=pending,
            ack_pending=ack_pending,
            redelivered=info["num_redelivered"],
            waiting=info["num_waiting"],
            lag_s=oldest_s,
            oldest_pending_s=pending_s,
            max_ack_pending=config.get("max_ack_pending", 0),
            delivered_sequence=delivered["consumer_seq"],
            ack_floor_sequence=ack_floor["stream_seq"],
            last_delivered_at=_time(delivered.get("last_active")),
            last_acked_at=_time(ack_floor.get("last_active")),
            declared=declared is not None,
            differences=differences(declared.as_dict(), config) if declared is not None and newer is None else (),
            config=config,
            newer=newer,
        )

    async def _age_s(self, stream: str, filters: tuple[str, ...], sequence: int) -> float:
        """Return the age of the first message from `sequence` on that a filter matches; 0 when there is none."""
        stored = []
        for pattern in filters or (">",):
            with contextlib.suppress(UnknownResource):
                answer = await self.ask(f"STREAM.MSG.GET.{stream}", {"seq": sequence, "next_by_subj": pattern})
                stored.append(datetime.fromisoformat(answer["message"]["time"]))
        return round(max(0.0, (now() - min(stored)).total_seconds()), 3) if stored else 0.0


def _newer(config: dict[str, Any]) -> int | None:
    """Return the version of the topology that wrote a configuration, where it is later than this program's."""
    version = version_of(config.get("metadata"))
    return version if version > TOPOLOGY_VERSION else None


def _time(told: str | None) -> datetime | None:
    """Read a server's time; year 1 is Go's way to say never."""
    return datetime.fromisoformat(told) if told and not told.startswith("0001-") else None


def _token(name: str) -> str:
    """Return the name of a stream or consumer, or say that there can be none of that name."""
    if not name or any(character in name for character in " .*>/\\\t\r\n"):
        raise UnknownResource("stream and consumer names hold no spaces, dots, wildcards or slashes")
    return name


def _watched(message: Msg) -> WatchedMessage:
    headers = dict(message.headers or {})
    return WatchedMessage(
        at=now(),
        subject=message.subject,
        size_bytes=len(message.data),
        request_id=headers.get(Header.CORRELATION_ID) or _request_id(message.data),
        headers=headers,
        payload=message.data,
    )


def _request_id(payload: bytes) -> str | None:
    """Return the request id in a body, of a client that sets no header."""
    try:
        return str(UUID(json.loads(payload)["request_id"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
