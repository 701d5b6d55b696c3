"""Rows that are to be forgotten: found by fingerprint, deleted by a mutation, and waited for. Every call blocks.

A mutation's text lies in system.mutations and on the disk for a while after it is done. So it names a salted
fingerprint, never a request id or a text's digest; the price is that the fingerprint of every row is computed.
"""

from __future__ import annotations

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


def erase(client: Client, order: ForgetOrder) -> Removed:
    """Begin to delete the rows of an order, and return how many were found.

    May be repeated. Rows stay visible until `erasing` says that nothing is under way any more.
    """
    parameters = {"salt": order.salt, "fingerprint": order.fingerprint, "until": microseconds(order.asked_at)}
    found = {}
    for name, (table, time_column) in _TABLES.items():
        where = _condition(table, order.kind, time_column)
        count = int(_ask(client, f"SELECT count() FROM {table} WHERE {where}", parameters)[0][0])  # noqa: S608 - constants
        found[name] = count
        if count:
            client.command(
                f"ALTER TABLE {table} DELETE WHERE {where}",
                parameters=parameters,
                settings={"mutations_sync": 0} | _UNLOGGED,
            )
    return Removed(**found)


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


def _condition(table: str, kind: ForgetKind, time_column: str) -> str:
    columns = _COLUMNS[kind]
    if table == schema.FEEDBACK and kind is ForgetKind.KEY:
        columns = (*columns, "toString(request_key_id)")
    matching = " OR ".join(
        f"lower(hex(SHA256(concat(unhex({{salt:String}}), {column})))) = {{fingerprint:String}}" for column in columns
    )
    return f"({matching}) AND {time_column} <= fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')"


def _ask(client: Client, sql: str, parameters: dict[str, Any]) -> Any:
    return client.query(sql, parameters=parameters, settings=_UNLOGGED).result_rows
