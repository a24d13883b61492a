//! One text of migrations makes two schemas: they have to be the same.

use std::collections::BTreeSet;

use bastide_store::Db;

/// Lines like `column git_pack.name text not null` and `index repo_by_path on repo (kind,path_key) unique`.
type Schema = BTreeSet<String>;

const SQLITE: &str = "\
    SELECT 'column ' || t.name || '.' || c.name || \
        CASE c.type WHEN 'INTEGER' THEN ' int' WHEN 'TEXT' THEN ' text' WHEN 'BLOB' THEN ' bytes' \
            WHEN 'REAL' THEN ' real' ELSE ' ' || c.type END || \
        CASE WHEN c.\"notnull\" OR c.pk > 0 THEN ' not null' ELSE '' END \
    FROM sqlite_master t JOIN pragma_table_info(t.name) c \
    WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' \
    UNION ALL \
    SELECT 'key ' || t.name || ' (' || \
        (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_table_info(t.name) WHERE pk > 0 ORDER BY pk)) || ')' \
    FROM sqlite_master t WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' \
    UNION ALL \
    SELECT 'index ' || m.name || ' on ' || m.tbl_name || ' (' || \
        (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(m.name) ORDER BY seqno)) || ')' || \
        CASE WHEN l.\"unique\" THEN ' unique' ELSE '' END || CASE WHEN l.partial THEN ' partial' ELSE '' END \
    FROM sqlite_master m JOIN pragma_index_list(m.tbl_name) l ON l.name = m.name \
    WHERE m.type = 'index' AND m.sql IS NOT NULL";

const POSTGRES: &str = "\
    SELECT 'column ' || table_name || '.' || column_name || \
        CASE data_type WHEN 'bigint' THEN ' int' WHEN 'text' THEN ' text' WHEN 'bytea' THEN ' bytes' \
            WHEN 'double precision' THEN ' real' ELSE ' ' || data_type END || \
        CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END \
    FROM information_schema.columns WHERE table_schema = 'public' \
    UNION ALL \
    SELECT 'key ' || c.conrelid::regclass || ' (' || \
        (SELECT string_agg(a.attname, ',' ORDER BY k.at) FROM unnest(c.conkey) WITH ORDINALITY k (num, at) \
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.num) || ')' \
    FROM pg_constraint c WHERE c.contype = 'p' AND c.connamespace = 'public'::regnamespace \
    UNION ALL \
    SELECT 'index ' || x.relname || ' on ' || i.indrelid::regclass || ' (' || \
        (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = x.oid) || ')' || \
        CASE WHEN i.indisunique THEN ' unique' ELSE '' END || \
        CASE WHEN i.indpred IS NOT NULL THEN ' partial' ELSE '' END \
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
    WHERE x.relnamespace = 'public'::regnamespace \
        AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = x.oid)";

#[tokio::test]
async fn both_engines_have_the_same_schema() {
    let Some(url) = crate::postgres_database("schema").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    Db::open_sqlite(&path).await.unwrap();
    Db::open_postgres(&url).await.unwrap();
    let (sqlite, postgres) = (sqlite_schema(&path), postgres_schema(&url).await);
    let only = |one: &Schema, other: &Schema| one.difference(other).cloned().collect::<Vec<_>>();
    let (left, right) = (only(&sqlite, &postgres), only(&postgres, &sqlite));
    assert!(left.is_empty() && right.is_empty(), "SQLite alone: {left:#?}\nPostgreSQL alone: {right:#?}");
    assert!(sqlite.len() > 100, "a query that finds nothing compares nothing: {sqlite:#?}");
}

fn sqlite_schema(path: &std::path::Path) -> Schema {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut statement = connection.prepare(SQLITE).unwrap();
    let lines = statement.query_map([], |row| row.get(0)).unwrap();
    lines.collect::<Result<_, _>>().unwrap()
}

async fn postgres_schema(url: &str) -> Schema {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query(POSTGRES, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
