-- Which token made a webhook, or said last where it sends: what ends with that token ------------------

-- Null for those from before this was written down. `slow` is 1 while the last attempt took seconds:
-- such webhooks share a part of the senders.
ALTER TABLE webhook ADD COLUMN token_id {int} REFERENCES token (id) ON DELETE SET NULL;
ALTER TABLE webhook ADD COLUMN slow {int} NOT NULL DEFAULT 0;
CREATE INDEX webhook_by_token ON webhook (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX webhook_leased ON webhook (leased_until) WHERE leased_until IS NOT NULL;
