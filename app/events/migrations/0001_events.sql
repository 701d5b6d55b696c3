-- The event log: one row per logged decision, and a view with exactly one row per request.
--
-- Sorting: the sorting key is the deduplication key of ReplacingMergeTree, so it is the request id and nothing
-- else. As UInt128, because ClickHouse compares a UUID by its last eight bytes first, which scatters time-ordered
-- version 7 ids; as a number they lie together in order of time.
-- precedence: ReplacingMergeTree keeps the largest version, and the first decision is the one that counts; one that
-- expired gives way to any decision.
-- received_at: rows are found by time through a minmax index, which is also exact under FINAL; partitions serve
-- retention, which drops whole days.
-- fsync: an acknowledged insert survives the machine's crash. Merged parts need none: their sources are kept for
-- eight minutes after the merge.

CREATE TABLE IF NOT EXISTS events_log
(
    request_id UUID,
    received_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    decided_at DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    decision LowCardinality(String),
    score UInt8 CODEC(ZSTD(1)),
    threat_level LowCardinality(String),
    mode LowCardinality(String),
    source LowCardinality(String),
    policy LowCardinality(String),
    model_version LowCardinality(String),
    latency_ms Float64 CODEC(ZSTD(1)),
    categories Array(LowCardinality(String)),
    boosts Array(LowCardinality(String)),
    explanations Array(String) CODEC(ZSTD(1)),

    branches Array(LowCardinality(String)) COMMENT 'names of the branches that the answer lists',
    heuristics_score Float64 CODEC(ZSTD(1)),
    heuristics_confidence Float64 CODEC(ZSTD(1)),
    heuristics_degraded Bool,
    heuristics_signals Array(LowCardinality(String)),
    heuristics_explanations Array(String) CODEC(ZSTD(1)),
    heuristics_latency_ms Float64 CODEC(ZSTD(1)),
    semantic_score Float64 CODEC(ZSTD(1)),
    semantic_confidence Float64 CODEC(ZSTD(1)),
    semantic_degraded Bool,
    semantic_signals Array(LowCardinality(String)),
    semantic_explanations Array(String) CODEC(ZSTD(1)),
    semantic_latency_ms Float64 CODEC(ZSTD(1)),
    classifier_score Float64 CODEC(ZSTD(1)),
    classifier_confidence Float64 CODEC(ZSTD(1)),
    classifier_degraded Bool,
    classifier_signals Array(LowCardinality(String)),
    classifier_explanations Array(String) CODEC(ZSTD(1)),
    classifier_latency_ms Float64 CODEC(ZSTD(1)),

    findings Nested
    (
        detector LowCardinality(String),
        rule LowCardinality(String),
        start UInt32,
        end UInt32,
        score Float64,
        action LowCardinality(String)
    ) COMMENT 'offsets are code points of the original text, end exclusive',

    pii_scanned Bool,
    pii_degraded Bool,
    pii_language LowCardinality(Nullable(String)),
    pii_count UInt32 CODEC(ZSTD(1)),
    pii_latency_ms Float64 CODEC(ZSTD(1)),
    pii_entities Nested
    (
        type LowCardinality(String),
        start UInt32,
        end UInt32,
        score Float64
    ) COMMENT 'offsets are code points of the original text, end exclusive',

    text_digest String CODEC(ZSTD(1)),
    text_length UInt32 CODEC(ZSTD(1)),
    redacted_text Nullable(String) CODEC(ZSTD(3)),
    sanitized Bool COMMENT 'the answer carried a text to use in place of the original',
    sanitized_text Nullable(String) CODEC(ZSTD(3)) COMMENT 'that text, where it differs from redacted_text',
    metadata Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    metadata_kinds LowCardinality(String) COMMENT 'type of each metadata value in order of keys: s i f b n',

    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    precedence UInt64 MATERIALIZED if(decision = 'EXPIRED', 0, toUInt64(9223372036854775807 - toUnixTimestamp64Micro(decided_at))) CODEC(Delta(8), ZSTD(1)),

    INDEX received_at_range received_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toDate(received_at)
ORDER BY toUInt128(request_id)
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE VIEW IF NOT EXISTS events AS SELECT * FROM events_log FINAL;
