-- Of a chat, what was decided of each message.
--
-- JSON, because only chats have it, verdicts hold lists of lists, and one request's are read together. No text, and no
-- name that a caller gave, is in it. The view is made anew because its columns are those of the table when it was made.

ALTER TABLE events_log
    ADD COLUMN IF NOT EXISTS messages String DEFAULT '' CODEC(ZSTD(3)) COMMENT 'JSON: the verdict of each message of a chat; empty for a text' AFTER key_id;

CREATE OR REPLACE VIEW events AS SELECT * FROM events_log FINAL;
