-- Which version of a policy decided; dry runs; what a policy that is tried beside it would have decided.
--
-- Rows from before have version 0. An empty would_decide is no dry run, an empty shadow_policy no shadow.
-- The view is made anew because its columns are those of the table when it was made.

ALTER TABLE events_log
    ADD COLUMN IF NOT EXISTS policy_version UInt32 DEFAULT 0 CODEC(ZSTD(1)) AFTER policy,
    ADD COLUMN IF NOT EXISTS dry_run Bool DEFAULT false AFTER policy_version,
    ADD COLUMN IF NOT EXISTS would_decide LowCardinality(String) DEFAULT '' AFTER dry_run,
    ADD COLUMN IF NOT EXISTS shadow_policy LowCardinality(String) DEFAULT '' AFTER would_decide,
    ADD COLUMN IF NOT EXISTS shadow_policy_version UInt32 DEFAULT 0 CODEC(ZSTD(1)) AFTER shadow_policy,
    ADD COLUMN IF NOT EXISTS shadow_decision LowCardinality(String) DEFAULT '' AFTER shadow_policy_version,
    ADD COLUMN IF NOT EXISTS shadow_score UInt8 DEFAULT 0 CODEC(ZSTD(1)) AFTER shadow_decision;

CREATE OR REPLACE VIEW events AS SELECT * FROM events_log FINAL;
