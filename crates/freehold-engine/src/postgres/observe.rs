//! What the cluster-wide catalogs say, as plain values, in one query.
//!
//! The same query serves one database (everything about it, its roles and the roles that a caller
//! names) and a survey (everything about every managed database). The server builds one JSON text,
//! so an observation is one round trip however much it sees.

use std::collections::{BTreeMap, BTreeSet};

use freehold_model::ServerIdentity;
use serde::Deserialize;
use tokio_postgres::types::Type;

use super::{
    connect::{Connection, Version},
    registry::{ROW_JSON, RegistryRow},
};
use crate::Result;

/// Who is granted something: a role, or everybody.
pub(crate) type Grantee = Option<String>;

/// One entry of an access control list, one privilege each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Grant {
    /// `None` is PUBLIC.
    pub(crate) to: Grantee,
    pub(crate) by: String,
    pub(crate) privilege: String,
    /// May be passed on.
    pub(crate) grantable: bool,
}

/// An SQL expression of the JSON array of an ACL's grants.
pub(crate) fn acl_json(acl: &str) -> String {
    format!(
        "(SELECT coalesce(json_agg(json_build_object( \
            'to', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, \
            'by', pg_get_userbyid(a.grantor), 'privilege', a.privilege_type, \
            'grantable', a.is_grantable)), '[]') FROM aclexplode({acl}) a)"
    )
}

/// The cluster-wide facts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) admin: String,
    /// The admin may set `temp_file_limit` for others.
    pub(crate) may_limit_temp_files: bool,
    pub(crate) rows: BTreeMap<String, RegistryRow>,
    /// By name.
    pub(crate) registered_roles: BTreeMap<String, RegisteredRole>,
    /// By name: those of the registry rows, and in a survey all there are.
    pub(crate) databases: BTreeMap<String, DatabaseFacts>,
    pub(crate) roles: BTreeMap<String, RoleFacts>,
    pub(crate) memberships: Vec<Membership>,
    pub(crate) settings: Vec<Setting>,
    pub(crate) sessions: Vec<Sessions>,
    /// SHA-256 of what `pg_authid` holds, where the admin may read it.
    #[serde(default)]
    pub(crate) verifiers: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct RegisteredRole {
    pub(crate) database: String,
    pub(crate) oid: u32,
    /// Fingerprint of the verifier that Freehold set last.
    pub(crate) verifier: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct DatabaseFacts {
    pub(crate) oid: u32,
    pub(crate) owner: String,
    pub(crate) connection_limit: i32,
    pub(crate) allow_connections: bool,
    pub(crate) acl: Vec<Grant>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct RoleFacts {
    pub(crate) oid: u32,
    pub(crate) login: bool,
    pub(crate) inherit: bool,
    /// Attributes beyond what any role of ours may have, as SQL spells them: `SUPERUSER`, ….
    pub(crate) powers: BTreeSet<String>,
    pub(crate) connection_limit: i32,
    /// Microseconds since 1970; absent means for ever.
    pub(crate) valid_until: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Membership {
    pub(crate) role: String,
    pub(crate) member: String,
    pub(crate) by: String,
    pub(crate) admin: bool,
    /// The member may create roles or is superuser: another administrator.
    pub(crate) keeper: bool,
    /// Absent before PostgreSQL 16.
    pub(crate) inherit: Option<bool>,
    pub(crate) set: Option<bool>,
}

/// One setting of a role, of a database, or of a role in a database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Setting {
    pub(crate) role: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Sessions {
    pub(crate) database: String,
    pub(crate) role: String,
    pub(crate) superuser: bool,
    pub(crate) count: u32,
}

/// The whole of what was seen, from which the plan is made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observed {
    pub(crate) version: Version,
    pub(crate) superuser: bool,
    pub(crate) identity: ServerIdentity,
    pub(crate) cluster: Cluster,
    /// Absent when the database does not exist yet or was not entered.
    pub(crate) inside: Option<super::inside::Inside>,
}

/// Which part of the cluster is looked at.
pub(crate) enum Scope<'a> {
    Everything,
    Of {
        database: &'a str,
        /// Beside those that the registry knows.
        roles: &'a [String],
    },
}

/// Reads the cluster-wide facts from the registry's database.
pub(crate) async fn cluster(connection: &Connection, scope: &Scope<'_>) -> Result<Cluster> {
    let (all, database, roles): (bool, &str, &[String]) = match scope {
        Scope::Everything => (true, "", &[]),
        Scope::Of { database, roles } => (false, database, roles),
    };
    let query = query(connection.superuser, connection.version.major);
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
        (&all, Type::BOOL),
        (&database, Type::TEXT),
        (&roles, Type::TEXT_ARRAY),
    ];
    connection
        .read_json(&query, &parameters, "read the server's catalogs")
        .await
}

/// `$1`: everything; `$2`: a database; `$3`: roles.
fn query(superuser: bool, major: u32) -> String {
    let database_acl = acl_json("coalesce(d.datacl, acldefault('d', d.datdba))");
    let verifiers = if superuser {
        ", 'verifiers', (SELECT coalesce(json_object_agg(a.rolname, \
            encode(sha256(convert_to(a.rolpassword, 'UTF8')), 'hex')), '{}') \
            FROM pg_authid a WHERE a.oid IN (SELECT oid FROM ours))"
    } else {
        ""
    };
    let may_limit = match (superuser, major) {
        (true, _) => "true",
        (false, ..15) => "false",
        (false, _) => "has_parameter_privilege('temp_file_limit', 'SET')",
    };
    format!(
        "WITH rows AS (SELECT * FROM freehold.registry r WHERE $1 OR r.name = $2), \
         registered AS (SELECT * FROM freehold.role f WHERE $1 OR f.database = $2 OR f.name = ANY ($3) \
            OR f.name IN (SELECT pg_get_userbyid(a.grantee) FROM pg_database d, aclexplode(d.datacl) a \
                WHERE d.datname = $2)), \
         ours AS (SELECT r.* FROM pg_roles r WHERE r.rolname = ANY ($3) \
            OR r.rolname IN (SELECT name FROM registered f WHERE $1 OR f.database = $2)), \
         seen AS (SELECT d.* FROM pg_database d WHERE $1 OR d.datname = $2) \
         SELECT json_build_object( \
         'admin', current_user, 'may_limit_temp_files', {may_limit}, \
         'rows', (SELECT coalesce(json_object_agg(r.name, {ROW_JSON}), '{{}}') FROM rows r), \
         'registered_roles', (SELECT coalesce(json_object_agg(f.name, json_build_object( \
            'database', f.database, 'oid', f.role_oid::bigint, 'verifier', f.verifier)), '{{}}') \
            FROM registered f), \
         'databases', (SELECT coalesce(json_object_agg(d.datname, json_build_object( \
            'oid', d.oid::bigint, 'owner', pg_get_userbyid(d.datdba), \
            'connection_limit', d.datconnlimit, 'allow_connections', d.datallowconn, \
            'acl', {database_acl})), '{{}}') FROM seen d), \
         'roles', (SELECT coalesce(json_object_agg(r.rolname, json_build_object( \
            'oid', r.oid::bigint, 'login', r.rolcanlogin, 'inherit', r.rolinherit, \
            'powers', array_remove(ARRAY[ \
                CASE WHEN r.rolsuper THEN 'SUPERUSER' END, \
                CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, \
                CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, \
                CASE WHEN r.rolreplication THEN 'REPLICATION' END, \
                CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL), \
            'connection_limit', r.rolconnlimit, \
            'valid_until', CASE WHEN isfinite(r.rolvaliduntil) \
                THEN (extract(epoch FROM r.rolvaliduntil) * 1000000)::bigint END)), '{{}}') \
            FROM ours r), \
         'memberships', (SELECT coalesce(json_agg(json_build_object( \
            'role', pg_get_userbyid(m.roleid), 'member', pg_get_userbyid(m.member), \
            'by', pg_get_userbyid(m.grantor), 'admin', m.admin_option, \
            'keeper', (SELECT k.rolsuper OR k.rolcreaterole FROM pg_roles k WHERE k.oid = m.member), \
            'inherit', to_json(m) -> 'inherit_option', 'set', to_json(m) -> 'set_option') \
            ORDER BY m.roleid, m.member, m.grantor), '[]') \
            FROM pg_auth_members m \
            WHERE m.roleid IN (SELECT oid FROM ours) OR m.member IN (SELECT oid FROM ours)), \
         'settings', (SELECT coalesce(json_agg(json_build_object( \
            'role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END, \
            'database', (SELECT d.datname FROM pg_database d WHERE d.oid = s.setdatabase), \
            'name', split_part(c, '=', 1), 'value', substr(c, strpos(c, '=') + 1))), '[]') \
            FROM pg_db_role_setting s, unnest(s.setconfig) c \
            WHERE s.setrole IN (SELECT oid FROM ours) \
                OR s.setdatabase IN (SELECT oid FROM seen)), \
         'sessions', (SELECT coalesce(json_agg(json_build_object('database', datname, \
            'role', usename, 'superuser', rolsuper, 'count', count)), '[]') FROM ( \
                SELECT a.datname, a.usename, r.rolsuper, count(*) FROM pg_stat_activity a \
                JOIN pg_roles r ON r.oid = a.usesysid \
                WHERE a.pid <> pg_backend_pid() AND a.datname IS NOT NULL \
                AND (a.datid IN (SELECT oid FROM seen) OR a.usesysid IN (SELECT oid FROM ours)) \
                GROUP BY 1, 2, 3) s) \
         {verifiers})::text"
    )
}

/// Of the given roles, those that the registry knows: they are tenants' roles, of whatever database.
pub(crate) async fn registered(
    connection: &Connection,
    roles: &[String],
) -> Result<BTreeSet<String>> {
    let rows = connection
        .read(
            "SELECT name FROM freehold.role WHERE name = ANY ($1)",
            &[(&roles, Type::TEXT_ARRAY)],
            "look up roles in the registry",
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
