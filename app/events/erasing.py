"""Rows that are to be forgotten: found by fingerprint, deleted by a mutation, and waited for. Every call blocks.

They are searched for a partition at a time, a day of events or a month of reports: each search is short, however long
the log is, and other calls have their turn in between. A mutation's text lies in system.mutations and on the disk for a
while after it is done. So it names a salted fingerprint, never a request id or a text's digest; the price is that the
fingerprint of every row is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.errors import EventLogUnavailable
from app.events import schema
from app.events.rows import microseconds
from app.log_contracts import ForgetKind, ForgetOrder, Removed

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_TABLES: Final = {
    "events": (schema.TABLE, "received_at"),
    "texts": (schema.TEXTS, "received_at"),
    "feedback": (schema.FEEDBACK, "given_at"),
}
_COLUMNS: Final[dict[ForgetKind, tuple[str, ...]]] = {
    ForgetKind.REQUEST: ("toString(request_id)",),
    ForgetKind.KEY: ("toString(key_id)",),
    ForgetKind.TENANT: ("toString(tenant)",),
    ForgetKind.TEXT: ("text_digest",),
}
_UNLOGGED: Final = {"log_queries": 0}
"""Keeps the statements out of a server's query log."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One partition of a table: what is searched in one go."""

    name: str
    """The table, as `Removed` calls it."""
    partition: str


def stretches(client: Client) -> list[Stretch]:
    """Return all that is to be searched for the rows of an order."""
    found = []
    for name, (table, _) in _TABLES.items():
        partitions = _ask(client, f"SELECT _partition_id FROM {table} GROUP BY _partition_id ORDER BY 1", {})  # noqa: S608 - constants
        found += [Stretch(name, partition) for (partition,) in partitions]
    return found


def search(client: Client, order: ForgetOrder, stretch: Stretch, within_s: float) -> Removed:
    """Count the rows of an order in a stretch; ClickHouse gives up after `within_s` seconds."""
    where = f"_partition_id = {{partition:String}} AND {_condition(stretch.name, order.kind)}"
    found = _ask(
        client,
        f"SELECT count() FROM {_TABLES[stretch.name][0]} WHERE {where}",  # noqa: S608 - constants
        _values(order) | {"partition": stretch.partition},
        {"max_execution_time": math.ceil(within_s)},
    )
    return Removed(**{stretch.name: int(found[0][0])})


def erase(client: Client, order: ForgetOrder, found: Removed) -> None:
    """Begin to delete the rows of an order from the tables where some were found.

    May be repeated. Rows stay visible until `erasing` says that nothing is under way any more.
    """
    for name, (table, _) in _TABLES.items():
        if getattr(found, name):
            client.command(
                f"ALTER TABLE {table} DELETE WHERE {_condition(name, order.kind)}",
                parameters=_values(order),
                settings={"mutations_sync": 0} | _UNLOGGED,
            )


def erasing(client: Client) -> bool:
    """Return whether a deletion is still under way.

    Raises:
        EventLogUnavailable: one has failed; ClickHouse goes on trying.
    """
    under_way = _ask(
        client,
        "SELECT latest_fail_reason FROM system.mutations WHERE database = {database:String} "
        "AND has({tables:Array(String)}, table) AND NOT is_done",
        {"database": client.database, "tables": [table for table, _ in _TABLES.values()]},
    )
    if any(reason for (reason,) in under_way):
        raise EventLogUnavailable("A deletion failed in the event log; it is tried again.")
    return bool(under_way)


def _condition(name: str, kind: ForgetKind) -> str:
    columns = _COLUMNS[kind]
    if name == "feedback" and kind is ForgetKind.KEY:
        columns = (*columns, "toString(request_key_id)")
    matching = " OR ".join(
        f"lower(hex(SHA256(concat(unhex({{salt:String}}), {column})))) = {{fingerprint:String}}" for column in columns
    )
    return f"({matching}) AND {_TABLES[name][1]} <= fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')"


def _values(order: ForgetOrder) -> dict[str, Any]:
    return {"salt": order.salt, "fingerprint": order.fingerprint, "until": microseconds(order.asked_at)}


def _ask(client: Client, sql: str, parameters: dict[str, Any], settings: dict[str, int] | None = None) -> Any:
    return client.query(sql, parameters=parameters, settings=_UNLOGGED | (settings or {})).result_rows
