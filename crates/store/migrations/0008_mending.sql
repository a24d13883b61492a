-- What a delivery quotes ----------------------------------------------------------------------------

-- The discussion, and the event of it, whose words a payload has: what is hidden or removed later goes
-- from there, too. Of what was sent before nothing says so: it is made anew when it is sent again.
ALTER TABLE webhook_delivery ADD COLUMN discussion_id {int};
ALTER TABLE webhook_delivery ADD COLUMN discussion_event_id {int};
CREATE INDEX webhook_delivery_by_discussion ON webhook_delivery (discussion_id, discussion_event_id)
    WHERE discussion_id IS NOT NULL;
UPDATE webhook_delivery SET payload = NULL, excerpt = NULL WHERE event LIKE '%discussion%';
