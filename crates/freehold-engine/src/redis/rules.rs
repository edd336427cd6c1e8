//! What a login may do, as rules of the server's access list.
//!
//! Commands are allowed one by one, never by category. A category holds what looks at all keys
//! whatever the patterns say (`KEYS`, `SCAN`, `RANDOMKEY`, `DBSIZE` are reads), and what modules put
//! into it, e.g. searches over an index of everybody's keys. So a command that is not named here is
//! refused, also one that a later version brings.
//!
//! Left out although it would be confined to the prefix: `SELECT`, `MOVE` and `COPY`, because keys in
//! another numbered database are seen by nobody who measures; `WAIT`, functions (`FCALL`: they belong
//! to the server), `CLIENT TRACKING` (it tells of everybody's keys), `PUBSUB` (of everybody's channels).
//!
//! Levels: `readOnly` reads keys and listens; `readWrite` does what programs do; `owner` may also load
//! values as bytes (`RESTORE`; the server checks them). There are no definitions that only an owner may
//! change.

use aws_lc_rs::digest;
use freehold_model::{Secret, Uid, kinds::AccessLevel};
use redis::Value;

use super::{
    connect::{Connection, ServerFacts, command, refuse, unreadable},
    names::DatabaseName,
    observe::User,
    registry::RESERVED,
};
use crate::Result;

/// For everyone: the connection itself, and reading.
const READING: &str = "\
    ping echo time command acl|whoami \
    client|id client|info client|getname client|setname client|setinfo client|reply \
    multi exec discard watch unwatch \
    subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe \
    exists type ttl pttl expiretime pexpiretime touch dump memory|usage \
    object|encoding object|freq object|idletime object|refcount sort_ro \
    get getrange substr strlen mget lcs getbit bitcount bitpos bitfield_ro digest \
    hget hmget hgetall hkeys hvals hlen hexists hstrlen hscan hrandfield \
    httl hpttl hexpiretime hpexpiretime \
    llen lrange lindex lpos \
    smembers sismember smismember scard srandmember sscan sinter sunion sdiff sintercard \
    zrange zrangebyscore zrangebylex zrevrange zrevrangebyscore zrevrangebylex zrank zrevrank \
    zscore zmscore zcard zcount zlexcount zscan zrandmember zinter zunion zdiff zintercard \
    geopos geodist geohash geosearch georadius_ro georadiusbymember_ro \
    xrange xrevrange xlen xread xpending xinfo|stream xinfo|groups xinfo|consumers \
    eval_ro evalsha_ro script|load script|exists";

const WRITING: &str = "\
    publish spublish \
    del unlink expire pexpire expireat pexpireat persist rename renamenx sort delifeq delex \
    set setnx setex psetex append incr decr incrby decrby incrbyfloat getset getdel getex \
    mset msetnx msetex setrange setbit bitfield bitop \
    hset hsetnx hmset hdel hincrby hincrbyfloat hexpire hpexpire hexpireat hpexpireat hpersist \
    hgetdel hgetex hsetex \
    lpush rpush lpushx rpushx lpop rpop lrem lset linsert ltrim lmove rpoplpush \
    blpop brpop blmove brpoplpush lmpop blmpop \
    sadd srem spop smove sinterstore sunionstore sdiffstore \
    zadd zincrby zrem zremrangebyrank zremrangebyscore zremrangebylex zpopmin zpopmax zmpop \
    bzpopmin bzpopmax bzmpop zrangestore zinterstore zunionstore zdiffstore \
    geoadd geosearchstore georadius georadiusbymember \
    pfadd pfcount pfmerge \
    xadd xdel xtrim xsetid xgroup xreadgroup xack xclaim xautoclaim xackdel xdelex \
    eval evalsha";

const OWNING: &str = "restore";

const LEVELS: [AccessLevel; 3] = [
    AccessLevel::ReadOnly,
    AccessLevel::ReadWrite,
    AccessLevel::Owner,
];

/// The account that exists for one transaction, to see how the server writes our rules.
const SPELLER: &str = "freehold:spelling";

/// How a server writes the commands of each level when it is asked for an account. Versions differ: some
/// sum commands up to categories, and others repeat what they were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spelling([String; 3]);

impl Spelling {
    pub(super) fn of(&self, level: AccessLevel) -> &str {
        let [read, write, own] = &self.0;
        match level {
            AccessLevel::ReadOnly => read,
            AccessLevel::ReadWrite => write,
            AccessLevel::Owner => own,
        }
    }

    #[cfg(test)]
    pub(super) fn test() -> Self {
        Self(["read", "write", "own"].map(str::to_owned))
    }
}

/// Asks the server once per connection. The account is gone when the answer comes: nobody can log in as
/// it, and nothing of it is seen by anyone.
pub(super) async fn spelling(admin: &mut Connection) -> Result<Spelling> {
    if let Some(known) = &admin.spelling {
        return Ok(known.clone());
    }
    let doing = "ask how the server writes access rules";
    let mut commands = vec![command(&["MULTI"])];
    for level in LEVELS {
        let mut words = words(&["ACL", "SETUSER", SPELLER, "reset", "resetchannels"]);
        words.extend(commands_of(level, &admin.server));
        commands.push(command(&words));
        commands.push(command(&["ACL", "GETUSER", SPELLER]));
    }
    commands.push(command(&["ACL", "DELUSER", SPELLER]));
    commands.push(command(&["EXEC"]));
    let replies = admin.read(&commands, doing).await?;
    let Some(Value::Array(said)) = replies.last() else {
        return Err(unreadable(doing));
    };
    let mut spelled = Vec::new();
    for reply in said {
        refuse(reply, doing)?;
        spelled.extend(User::read(reply).map(|user| user.commands));
    }
    let spelled = <[String; 3]>::try_from(spelled).map_err(|_| unreadable(doing))?;
    let spelling = Spelling(spelled);
    admin.spelling = Some(spelling.clone());
    Ok(spelling)
}

/// `+get`, `+set` and so on: of ours those that the server knows.
fn commands_of(level: AccessLevel, server: &ServerFacts) -> Vec<String> {
    let parts: &[&str] = match level {
        AccessLevel::ReadOnly => &[READING],
        AccessLevel::ReadWrite => &[READING, WRITING],
        AccessLevel::Owner => &[READING, WRITING, OWNING],
    };
    let all = parts.iter().flat_map(|part| part.split_whitespace());
    all.filter(|name| server.commands.contains(*name))
        .map(|name| format!("+{name}"))
        .collect()
}

/// What a login should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Open {
        level: AccessLevel,
        /// SHA-256 of the password, in hexadecimal.
        hash: String,
    },
    /// Cannot log in, may do nothing, has no sessions.
    Closed,
}

impl Wanted {
    pub(super) fn open(level: AccessLevel, password: &Secret) -> Self {
        let digest = digest::digest(&digest::SHA256, password.expose().as_bytes());
        Self::Open {
            level,
            hash: hexadecimal(digest.as_ref()),
        }
    }

    /// The keys that it may use, as patterns.
    pub(super) fn keys(&self, database: &DatabaseName) -> Option<String> {
        let pattern = database.pattern();
        match self {
            Self::Closed => None,
            Self::Open {
                level: AccessLevel::ReadOnly,
                ..
            } => Some(format!("%R~{pattern}")),
            Self::Open { .. } => Some(format!("~{pattern}")),
        }
    }

    pub(super) fn channels(&self, database: &DatabaseName) -> Option<String> {
        match self {
            Self::Closed => None,
            Self::Open { .. } => Some(format!("&{}", database.pattern())),
        }
    }

    /// The rules that make any account this one, all at once. `reset` gives all channels where the
    /// server's `acl-pubsub-default` says so, so they are taken by themselves.
    pub(super) fn rules(
        &self,
        login: &str,
        database: &DatabaseName,
        owner: Uid,
        server: &ServerFacts,
    ) -> Vec<String> {
        let mut rules = words(&["ACL", "SETUSER", login, "reset", "resetchannels"]);
        rules.push(mark(owner));
        rules.extend(self.keys(database));
        rules.extend(self.channels(database));
        if let Self::Open { level, hash } = self {
            rules.extend(commands_of(*level, server));
            rules.push(format!("#{hash}"));
            rules.push("on".to_owned());
        }
        rules
    }
}

/// A selector that allows no command: it gives nothing, and says whose account this is. Unlike a note
/// in the registry it cannot be parted from the account.
fn mark(owner: Uid) -> String {
    format!("(resetchannels -@all ~{})", marked(owner))
}

/// The pattern in [`mark`].
pub(super) fn marked(owner: Uid) -> String {
    format!("{RESERVED}:owned:{owner}")
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
