-- Who pays for what is proposed ------------------------------------------------------------------------

-- What the commits of a pull request have brought in packs, to the byte: `bytes` is a price, which has a
-- least. Of older rows nobody knows it: then it counts for the owner.
ALTER TABLE proposal_commit ADD COLUMN pack_bytes {int} NOT NULL DEFAULT 0;

-- `proposed_bytes` is the part of `used_bytes` that only proposals use, which is not the owner's: the xorbs of
-- `proposal_xorb` as they are stored, and `pack_bytes`. `proposal_price` is what all proposers together are
-- charged: the `bytes` of the three tables. Those of a namespace are the sums over its repositories. All four
-- change in the transaction that changes what they count.
ALTER TABLE repo ADD COLUMN proposed_bytes {int} NOT NULL DEFAULT 0;
ALTER TABLE repo ADD COLUMN proposal_price {int} NOT NULL DEFAULT 0;
ALTER TABLE namespace ADD COLUMN proposed_bytes {int} NOT NULL DEFAULT 0;
ALTER TABLE namespace ADD COLUMN proposal_price {int} NOT NULL DEFAULT 0;

UPDATE repo SET proposed_bytes = COALESCE((SELECT SUM(x.stored_bytes) FROM proposal_xorb p
        JOIN xorb x ON x.id = p.xorb_id WHERE p.repo_id = repo.id), 0),
    proposal_price = COALESCE((SELECT SUM(p.bytes) FROM proposal_xorb p WHERE p.repo_id = repo.id), 0)
        + COALESCE((SELECT SUM(p.bytes) FROM proposal_file p WHERE p.repo_id = repo.id), 0)
        + COALESCE((SELECT SUM(p.bytes) FROM proposal_commit p WHERE p.repo_id = repo.id), 0);
UPDATE namespace SET
    proposed_bytes = COALESCE((SELECT SUM(r.proposed_bytes) FROM repo r WHERE r.namespace_id = namespace.id), 0),
    proposal_price = COALESCE((SELECT SUM(r.proposal_price) FROM repo r WHERE r.namespace_id = namespace.id), 0);
