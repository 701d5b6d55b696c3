"""The floor: three JetStream hops of the guard's shape with nothing in them, to measure what the shape itself costs.

`uvicorn tests.benchmarks.floor:app` with NATS_URL set. No service of this shape on one machine can be much faster.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType
from pydantic import BaseModel

from app.identity import new_request_id

STREAM = JStream(
    "FLOOR", subjects=["floor.>"], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE, max_age=3600
)
broker = NatsBroker(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), logger=None)


class Ask(BaseModel):
    text: str
    mode: str = "fast"
    request_id: str = ""


class Reply(BaseModel):
    request_id: str
    score: int
    text: str


def pulled(durable: str, *, batch: bool = False) -> dict[str, Any]:
    options: dict[str, Any] = {
        "stream": STREAM,
        "durable": durable,
        "config": ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=30, max_deliver=3, max_ack_pending=1000),
        "no_reply": True,
    }
    if batch:
        return options | {"pull_sub": PullSub(batch_size=500, timeout=0.5, batch=True)}
    return options | {"pull_sub": PullSub(batch_size=64, timeout=1), "max_workers": 64}


@broker.subscriber("floor.guard.*", **pulled("floor-detection"))
async def detect(ask: Ask, message: NatsMessage) -> None:
    reply = Reply(request_id=ask.request_id, score=3, text=ask.text)
    headers = {"x-reply": message.headers["x-reply"]}
    await broker.publish(reply, "floor.arbiter.decide", stream=STREAM.name, headers=headers, timeout=5)


@broker.subscriber("floor.arbiter.>", **pulled("floor-arbiter"))
async def decide(reply: Reply, message: NatsMessage) -> None:
    await broker.publish(reply.model_dump_json().encode(), message.headers["x-reply"])
    await broker.publish(reply, "floor.logs.event", stream=STREAM.name, timeout=5)


@broker.subscriber("floor.logs.>", **pulled("floor-logging", batch=True))
async def log(replies: list[Reply]) -> None:
    """Take the events and forget them."""


waiting: dict[str, asyncio.Future[bytes]] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await broker.start()
    app.state.jetstream = broker.connection.jetstream()
    app.state.inbox = broker.connection.new_inbox()

    async def on_reply(message: Msg) -> None:
        future = waiting.pop(Reply.model_validate_json(message.data).request_id, None)
        if future is not None and not future.done():
            future.set_result(message.data)

    await broker.connection.subscribe(app.state.inbox, cb=on_reply)
    yield
    await broker.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/health/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/guard", response_model=Reply)
async def guard(ask: Ask) -> Reply:
    ask.request_id = str(new_request_id())
    future = waiting[ask.request_id] = asyncio.get_running_loop().create_future()
    await app.state.jetstream.publish(
        "floor.guard.input",
        ask.model_dump_json().encode(),
        headers={"Nats-Msg-Id": ask.request_id, "x-reply": app.state.inbox, "content-type": "application/json"},
    )
    return Reply.model_validate_json(await asyncio.wait_for(future, 5))
