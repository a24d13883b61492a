-- Webhooks and what was delivered to them ---------------------------------------------------------

-- `disabled` is the reason, empty when its owner wanted it; null while it is on. `due_at` is when the
-- next of its deliveries is due, null when none waits, and the end of the lease while one is under
-- way: `lease` grows with each, and who holds an old one changes nothing. `window_at` and `triggers`
-- count what was sent in a day.
CREATE TABLE webhook (
    id {id},
    owner_id {int} NOT NULL REFERENCES namespace (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    secret {blob},
    repos {int} NOT NULL,
    discussions {int} NOT NULL,
    disabled TEXT,
    failures {int} NOT NULL DEFAULT 0,
    window_at {int} NOT NULL DEFAULT 0,
    triggers {int} NOT NULL DEFAULT 0,
    due_at {int},
    lease {int} NOT NULL DEFAULT 0,
    leased_until {int},
    created_at {int} NOT NULL,
    updated_at {int} NOT NULL
);
CREATE INDEX webhook_by_owner ON webhook (owner_id, id);
CREATE INDEX webhook_due ON webhook (due_at) WHERE due_at IS NOT NULL;

-- What a webhook watches, by ids, so that renaming breaks nothing. `name` is what its owner called
-- it: all that is shown once they may not know of it any more. Events before `from_seq` are not its.
CREATE TABLE webhook_watch (
    kind TEXT NOT NULL,
    subject_id {int} NOT NULL,
    webhook_id {int} NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    place {int} NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    from_seq {int} NOT NULL,
    PRIMARY KEY (kind, subject_id, webhook_id)
){rowless};
CREATE INDEX webhook_watch_by_webhook ON webhook_watch (webhook_id, place);

-- One event for one webhook: the queue and the log. `next_at` is when it is tried next, null when it
-- is over: `outcome` says how. `status` and what follows are of the last attempt.
CREATE TABLE webhook_delivery (
    id {id},
    webhook_id {int} NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    seq {int} NOT NULL,
    replay_of {int},
    event TEXT NOT NULL,
    payload TEXT,
    next_at {int},
    attempts {int} NOT NULL DEFAULT 0,
    outcome TEXT,
    url TEXT,
    status {int},
    duration_ms {int},
    error TEXT,
    excerpt TEXT,
    created_at {int} NOT NULL,
    tried_at {int}
);
CREATE UNIQUE INDEX webhook_delivery_once ON webhook_delivery (webhook_id, seq) WHERE replay_of IS NULL;
CREATE INDEX webhook_delivery_log ON webhook_delivery (webhook_id, id);
CREATE INDEX webhook_delivery_next ON webhook_delivery (webhook_id, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX webhook_delivery_by_age ON webhook_delivery (created_at);
