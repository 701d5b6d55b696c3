-- compatible-with: 5
-- Whether the answer said what the policy on trial would have decided.
--
-- Rows from before have false: their callers may not have asked. The view is made anew because its columns are those of
-- the table when it was made.

ALTER TABLE events_log ADD COLUMN IF NOT EXISTS shadow_shown Bool DEFAULT false AFTER shadow_score;

CREATE OR REPLACE VIEW events AS SELECT * FROM events_log FINAL;
