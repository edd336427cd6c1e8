//! What the server says about itself, and what its admin may do.

use std::collections::BTreeMap;

use redis::{Cmd, Value};

use super::{
    RedisEngine,
    connect::{Connection, command, unreadable},
    observe::{self, User},
    registry, reply,
};
use crate::{InstanceFacts, Result};

/// Settings that an administrator may want to see beside the databases.
const SETTINGS: &[&str] = &[
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "save",
    "aclfile",
    "acl-pubsub-default",
    "maxclients",
];

/// What Freehold sends, each as a command that could be sent.
const NEEDED: &[&[&str]] = &[
    &["ACL", "SETUSER", "x"],
    &["ACL", "GETUSER", "x"],
    &["ACL", "DELUSER", "x"],
    &["ACL", "LIST"],
    &["ACL", "SAVE"],
    &["CLIENT", "LIST"],
    &["CLIENT", "KILL", "USER", "x"],
    &["CONFIG", "REWRITE"],
    &["WATCH", "freehold:server"],
    &["MULTI"],
    &["EXEC"],
    &["HSET", "freehold:server", "x", "x"],
    &["HGETALL", "freehold:server"],
    &["SADD", "freehold:databases", "x"],
    &["SMEMBERS", "freehold:databases"],
    &["INCR", "freehold:creations"],
    &["SCAN", "0"],
    &["DBSIZE"],
    &["MEMORY", "USAGE", "x"],
    &["TIME"],
];

pub(super) async fn inspect(engine: &RedisEngine) -> Result<InstanceFacts> {
    let doing = "inspect the server";
    let mut admin = engine.pool.lease().await?;
    let home = registry::home(&mut admin).await?;
    let databases = registry::index(&mut admin).await?.len();
    let mut asked = vec![command(&["INFO"])];
    asked.extend(
        SETTINGS
            .iter()
            .map(|name| command(&["CONFIG", "GET", name])),
    );
    let replies = admin.read(&asked, doing).await?;
    let Some((info, settings)) = replies.split_first() else {
        return Err(unreadable(doing));
    };
    let info = reply::info(info);
    let settings: BTreeMap<String, String> =
        settings.iter().filter_map(reply::hash).flatten().collect();
    let missing_rights = missing_rights(&mut admin).await?;
    let (version, place) = (admin.server.version.clone(), admin.server.place.clone());
    admin.keep();
    let number = |name: &str| -> u64 {
        let value = info.get(name).and_then(|value| value.parse().ok());
        value.unwrap_or(0)
    };
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(InstanceFacts {
        version: version.text,
        version_major: version.major,
        identity: home.map(|home| home.identity(&place)),
        databases: small(databases as u64),
        size_bytes: number("used_memory"),
        connections: small(number("connected_clients")),
        connections_max: settings.get("maxclients").and_then(|max| max.parse().ok()),
        read_only: info.get("role").is_some_and(|role| role != "master"),
        missing_rights,
        settings,
        extensions_available: Vec::new(),
    })
}

/// By trying each command dry, and by what would make every account pointless.
async fn missing_rights(admin: &mut Connection) -> Result<Vec<String>> {
    let doing = "look at the admin's rights";
    let name = admin.server.admin.clone();
    let trials: Vec<Cmd> = NEEDED
        .iter()
        .map(|words| {
            let mut trial = vec!["ACL", "DRYRUN", &name];
            trial.extend(*words);
            command(&trial)
        })
        .collect();
    let replies = admin.send(&trials, doing).await?;
    let mut lacking = Vec::new();
    for (words, reply) in NEEDED.iter().zip(&replies) {
        match reply {
            // Without the right to try, the real thing will tell.
            Value::ServerError(error) if error.code() == "NOPERM" => break,
            reply if reply::text(reply).as_deref() == Some("OK") => {}
            Value::BulkString(_) | Value::SimpleString(_) => lacking.push(words.join(" ")),
            _ => {}
        }
    }
    let mut missing = Vec::new();
    if !lacking.is_empty() {
        missing.push(format!(
            "to set accounts and to keep the registry, the account {name:?} must be allowed {}; e.g. ACL \
             SETUSER {name} ~* &* +@all",
            lacking.join(", ")
        ));
    }
    let users = observe::all(admin).await?;
    missing.extend(lossy_default(admin, users.get("default")).await?);
    let open = users
        .iter()
        .filter(|(_, user)| user.enabled && user.open_to_all && user.commands != "-@all");
    for (user, _) in open {
        missing.push(format!(
            "to keep anyone out at all: the account {user:?} takes any password; ACL SETUSER {user} \
             resetpass >SECRET, or off, and then ACL SAVE or CONFIG REWRITE"
        ));
    }
    Ok(missing)
}

/// Redis (7.0.15 measured) runs its append-only file at the start as the account `default`, and drops each
/// transaction in it that this account may not run: the tenants', and ours.
async fn lossy_default(admin: &mut Connection, default: Option<&User>) -> Result<Option<String>> {
    let asked = [command(&["CONFIG", "GET", "appendonly"])];
    let replies = admin.read(&asked, "look at the settings").await?;
    let settings = replies.first().and_then(reply::hash).unwrap_or_default();
    let has_log = settings.get("appendonly").is_some_and(|on| on == "yes");
    let may = default.is_none_or(|user| {
        let all = |patterns: &[String], all: &str| patterns.iter().any(|pattern| pattern == all);
        user.commands == "+@all" && all(&user.keys, "~*") && all(&user.channels, "&*")
    });
    Ok((has_log && !may).then(|| {
        "to keep transactions over a restart: the server reads its append-only file as the account \
         \"default\", which lacks rights, and drops them; ACL SETUSER default off resetpass ~* &* +@all \
         lets nobody in, and then ACL SAVE or CONFIG REWRITE"
            .to_owned()
    }))
}
