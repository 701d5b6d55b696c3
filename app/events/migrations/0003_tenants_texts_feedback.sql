-- Whose request it was; full texts with a retention of their own; what callers say of decisions.
--
-- The view is made anew because its columns are those of the table when it was made.
-- event_texts: holds rows only where privacy.store is full. The digest belongs to the key because another text under
-- the same request id is refused by a later stage, and must not take the place of the first one.
-- feedback: the latest report of each key on each request counts.

ALTER TABLE events_log
    ADD COLUMN IF NOT EXISTS tenant LowCardinality(String) DEFAULT 'default' AFTER metadata_kinds,
    ADD COLUMN IF NOT EXISTS key_id LowCardinality(String) DEFAULT '' AFTER tenant;

CREATE OR REPLACE VIEW events AS SELECT * FROM events_log FINAL;

CREATE TABLE IF NOT EXISTS event_texts
(
    request_id UUID,
    tenant LowCardinality(String),
    key_id LowCardinality(String),
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    text_digest String CODEC(ZSTD(1)),
    text String CODEC(ZSTD(3)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(received_at)
ORDER BY (toUInt128(request_id), text_digest)
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS feedback
(
    request_id UUID,
    feedback_id UUID,
    tenant LowCardinality(String),
    key_id LowCardinality(String) COMMENT 'who reports',
    request_key_id LowCardinality(String) COMMENT 'who made the request',
    given_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    verdict LowCardinality(String),
    expected LowCardinality(Nullable(String)),
    category LowCardinality(Nullable(String)),
    comment Nullable(String) CODEC(ZSTD(3)),
    text Nullable(String) CODEC(ZSTD(3)) COMMENT 'the text of the request, given up for training',
    decision LowCardinality(String),
    score UInt8 CODEC(ZSTD(1)),
    mode LowCardinality(String),
    source LowCardinality(String),
    policy LowCardinality(String),
    language LowCardinality(Nullable(String)),
    text_digest String CODEC(ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree(given_at)
PARTITION BY toYYYYMM(given_at)
ORDER BY (toUInt128(request_id), key_id)
SETTINGS
    fsync_after_insert = 1,
    fsync_part_directory = 1;
