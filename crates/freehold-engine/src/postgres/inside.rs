//! What a database holds inside: schemas, objects by their rights, default privileges, extensions.
//!
//! Objects come in groups of equal schema, kind, owner and access control list, so that a thousand
//! tables with the same rights are one row, and what differs stands out. Members of extensions are
//! left out: their rights are the extension's business. One query, one JSON text.

use std::collections::BTreeSet;

use freehold_model::kinds::AccessTarget;
use serde::Deserialize;
use tokio_postgres::types::Type;

use super::{
    connect::Connection,
    observe::{Grant, acl_json},
};
use crate::Result;

/// Everything that matters inside one database.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Inside {
    pub(crate) schemas: Vec<Schema>,
    pub(crate) groups: Vec<Group>,
    pub(crate) columns: Vec<Column>,
    pub(crate) defaults: Vec<Defaults>,
    pub(crate) extensions: BTreeSet<String>,
    /// Grantees met inside that are roles of some tenant. Filled in from the registry.
    #[serde(default)]
    pub(crate) tenants: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) acl: Vec<Grant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ObjectKind {
    /// Tables, views, materialised views, foreign tables.
    Table,
    Sequence,
    /// Functions, procedures, aggregates.
    Routine,
}

/// Objects of one schema that are alike in everything the plan looks at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Group {
    pub(crate) schema: String,
    pub(crate) kind: ObjectKind,
    pub(crate) owner: String,
    /// The table that an access names, when this is that table or a sequence of its columns.
    pub(crate) target: Option<String>,
    pub(crate) acl: Vec<Grant>,
    /// Names; of routines the signature without the schema, quoted by the server.
    pub(crate) names: Vec<String>,
}

/// A column with rights of its own. Freehold grants none, so each is somebody's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Column {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) owner: String,
    pub(crate) acl: Vec<Grant>,
}

/// Default privileges of one role for one kind of object, in one schema or in all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Defaults {
    pub(crate) role: String,
    pub(crate) schema: Option<String>,
    /// As the catalog codes it: `r`, `S`, `f`, `T`, `n`, `L`.
    pub(crate) kind: char,
    pub(crate) acl: Vec<Grant>,
}

/// Reads what is inside the connected database.
pub(crate) async fn look(connection: &Connection, targets: &[&AccessTarget]) -> Result<Inside> {
    let (schemas, tables): (Vec<&str>, Vec<&str>) = targets
        .iter()
        .filter_map(|target| Some((target.schema.as_str(), target.table.as_deref()?)))
        .unzip();
    connection
        .read_json(
            &query(),
            &[(&schemas, Type::TEXT_ARRAY), (&tables, Type::TEXT_ARRAY)],
            "read the database's catalogs",
        )
        .await
}

/// The look into a database that was made a moment ago: what a template can bring along. `None` when it
/// brought objects, which is for [`look`] to see. Much cheaper than that: a fresh session plans it
/// with cold caches.
pub(crate) async fn look_at_newborn(connection: &Connection) -> Result<Option<Inside>> {
    #[derive(Deserialize)]
    struct Newborn {
        furnished: bool,
        #[serde(flatten)]
        inside: Inside,
    }
    let newborn: Newborn = connection
        .read_json(&newborn_query(), &[], "read the new database's catalogs")
        .await?;
    Ok((!newborn.furnished).then_some(newborn.inside))
}

/// What `initdb` makes has a lower OID than whatever is made later.
const FIRST_NORMAL_OID: u32 = 16384;

fn newborn_query() -> String {
    let (schemas, defaults) = (schemas_json(), defaults_json());
    format!(
        "SELECT json_build_object( \
         'furnished', EXISTS (SELECT FROM pg_class WHERE oid >= {FIRST_NORMAL_OID}) \
            OR EXISTS (SELECT FROM pg_proc WHERE oid >= {FIRST_NORMAL_OID}), \
         'schemas', {schemas}, 'groups', json_build_array(), 'columns', json_build_array(), \
         'defaults', {defaults}, \
         'extensions', (SELECT coalesce(json_agg(extname), '[]') FROM pg_extension))::text"
    )
}

fn schemas_json() -> String {
    let acl = acl_json("coalesce(n.nspacl, acldefault('n', n.nspowner))");
    let free = not_of_extension("pg_namespace", "n.oid");
    format!(
        "(SELECT coalesce(json_agg(json_build_object('name', n.nspname, \
            'owner', pg_get_userbyid(n.nspowner), 'acl', {acl}) ORDER BY n.nspname), '[]') \
            FROM pg_namespace n WHERE {NOT_SYSTEM} AND {free})"
    )
}

fn defaults_json() -> String {
    let acl = acl_json("d.defaclacl");
    format!(
        "(SELECT coalesce(json_agg(json_build_object( \
            'role', pg_get_userbyid(d.defaclrole), \
            'schema', (SELECT n.nspname FROM pg_namespace n WHERE n.oid = d.defaclnamespace), \
            'kind', d.defaclobjtype, 'acl', {acl}) \
            ORDER BY d.defaclrole, d.defaclnamespace, d.defaclobjtype), '[]') FROM pg_default_acl d)"
    )
}

const NOT_SYSTEM: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

fn not_of_extension(catalog: &str, oid: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = '{catalog}'::regclass \
         AND e.objid = {oid} AND e.deptype = 'e')"
    )
}

fn query() -> String {
    let (schemas, defaults) = (schemas_json(), defaults_json());
    let group_acl = acl_json("g.acl");
    let column_acl = acl_json("t.attacl");
    let (class_free, routine_free) = (
        not_of_extension("pg_class", "c.oid"),
        not_of_extension("pg_proc", "p.oid"),
    );
    // The sequence of a serial or identity column goes with its table.
    format!(
        "WITH targets AS (SELECT c.oid, c.relname FROM unnest($1, $2) AS w (nsp, rel) \
            JOIN pg_namespace n ON n.nspname = w.nsp \
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.rel \
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')), \
         target_sequences AS (SELECT d.objid AS oid, t.relname FROM targets t \
            JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid \
            AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')), \
         objects AS (SELECT n.nspname, \
                CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, \
                c.relowner AS owner, c.relname::text AS name, \
                CASE c.relkind WHEN 'S' THEN \
                    (SELECT s.relname FROM target_sequences s WHERE s.oid = c.oid LIMIT 1) \
                    ELSE (SELECT t.relname FROM targets t WHERE t.oid = c.oid) END AS target, \
                coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", \
                    c.relowner)) AS acl \
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {NOT_SYSTEM} AND {class_free} \
            UNION ALL \
            SELECT n.nspname, 'routine', p.proowner, \
                format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), NULL, \
                coalesce(p.proacl, acldefault('f', p.proowner)) \
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
            WHERE {NOT_SYSTEM} AND {routine_free}), \
         grouped AS (SELECT nspname, kind, owner, target, acl::text AS acl_text, \
                json_agg(name ORDER BY name) AS names \
            FROM objects GROUP BY 1, 2, 3, 4, 5), \
         g AS (SELECT grouped.*, acl_text::aclitem[] AS acl FROM grouped) \
         SELECT json_build_object( \
         'schemas', {schemas}, \
         'groups', (SELECT coalesce(json_agg(json_build_object('schema', g.nspname, \
            'kind', g.kind, 'owner', pg_get_userbyid(g.owner), 'target', g.target, \
            'acl', {group_acl}, 'names', g.names) \
            ORDER BY g.nspname, g.kind, g.owner, g.target, g.acl_text), '[]') FROM g), \
         'columns', (SELECT coalesce(json_agg(json_build_object('schema', n.nspname, \
            'table', c.relname, 'column', t.attname, 'owner', pg_get_userbyid(c.relowner), \
            'acl', {column_acl}) ORDER BY n.nspname, c.relname, t.attnum), '[]') \
            FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid \
            JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE t.attacl IS NOT NULL AND NOT t.attisdropped AND {NOT_SYSTEM} AND {class_free}), \
         'defaults', {defaults}, \
         'extensions', (SELECT coalesce(json_agg(extname), '[]') FROM pg_extension))::text"
    )
}
