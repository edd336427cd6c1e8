//! What a login can and cannot do: each command that could lead out of the prefix, tried on the server.

use std::fs;

use freehold_testing::redis::Server;

use crate::world::{Session, World, credentials, neighbours};

/// `shop` and `other`, with something of each and something of nobody's.
async fn world() -> World {
    let server = Server::builder()
        .setting("enable-debug-command", "yes")
        .setting("enable-module-command", "yes")
        .start();
    let world = World::around(server);
    for desired in neighbours() {
        world.provision(&desired).await;
    }
    for words in [
        &["SET", "other:secret", "treasure"][..],
        &["SET", "plain", "treasure"],
        &["RPUSH", "other:list", "treasure"],
        &["XADD", "other:stream", "*", "f", "treasure"],
        &["SADD", "other:set", "treasure"],
        &["SET", "shop:k", "v"],
        &["RPUSH", "shop:l", "2", "1"],
        &["SADD", "shop:s", "1"],
        &["XADD", "shop:x", "*", "f", "v"],
        &["HSET", "shop:h", "f", "v"],
        &["ZADD", "shop:z", "1", "m"],
    ] {
        world.server.run(words);
    }
    world
}

/// Of all levels; what is asked for is not the database's.
const LEADING_OUT: &[&str] = &[
    // Keys of others, in every place where a command takes a key.
    "GET other:secret",
    "GET plain",
    "GET shop",
    "GET shopping:k",
    "STRLEN other:secret",
    "SET other:secret x",
    "SET plain x",
    "DEL other:secret",
    "EXPIRE other:secret 1",
    "RENAME shop:k other:k",
    "RENAME other:secret shop:k",
    "BITOP AND shop:b other:secret",
    "BITOP AND other:b shop:k",
    "MGET shop:k other:secret",
    "MSET shop:k v other:secret x",
    "LCS shop:k other:secret",
    "PFMERGE shop:p other:secret",
    "SINTERSTORE shop:s2 shop:s other:set",
    "SUNIONSTORE other:set shop:s",
    "SMOVE other:set shop:s treasure",
    "ZUNIONSTORE shop:z2 2 shop:z other:set",
    "SINTERCARD 2 shop:s other:set",
    "LMOVE other:list shop:l LEFT LEFT",
    "LMPOP 2 shop:none other:list LEFT",
    "BLPOP other:list 1",
    "BLMPOP 1 2 shop:none other:list LEFT",
    "GEOSEARCHSTORE other:g shop:g FROMLONLAT 0 0 BYRADIUS 1 m",
    "GEORADIUS shop:g 0 0 1 m STORE other:g",
    "XREAD STREAMS shop:x other:stream 0 0",
    "XREADGROUP GROUP g c STREAMS other:stream >",
    "XINFO STREAM other:stream",
    "OBJECT ENCODING other:secret",
    "MEMORY USAGE other:secret",
    "DUMP other:secret",
    "TYPE other:secret",
    "EXISTS other:secret",
    "TOUCH other:secret",
    "WATCH other:secret",
    "SORT other:list ALPHA",
    "SORT shop:l STORE other:l",
    // Patterns in a command's own arguments.
    "SORT shop:l BY other:*",
    "SORT shop:l GET other:secret",
    "SORT_RO shop:l GET other:secret",
    "SORT shop:l GET shop:*",
    // The registry.
    "HGETALL freehold:server",
    "HSET freehold:server id x",
    "DEL freehold:database:shop",
    "SMEMBERS freehold:databases",
    // What looks at all keys.
    "KEYS *",
    "KEYS shop:*",
    "SCAN 0",
    "SCAN 0 MATCH shop:*",
    "RANDOMKEY",
    "DBSIZE",
    // Other numbered databases.
    "SELECT 1",
    "MOVE shop:k 1",
    "COPY shop:k shop:c DB 1",
    "COPY shop:k shop:c",
    "SWAPDB 0 1",
    // Everybody's data at once.
    "FLUSHALL",
    "FLUSHDB",
    "FLUSHALL ASYNC",
    "MIGRATE 127.0.0.1 1 shop:k 0 1",
    "RESTORE-ASKING shop:r 0 x",
    // The server.
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "CONFIG REWRITE",
    "CONFIG RESETSTAT",
    "ACL LIST",
    "ACL GETUSER admin",
    "ACL SETUSER app_a ~*",
    "ACL SETUSER new on nopass ~* +@all",
    "ACL SAVE",
    "ACL LOAD",
    "ACL LOG",
    "ACL USERS",
    "ACL DRYRUN app_a GET x",
    "DEBUG SLEEP 0",
    "DEBUG OBJECT shop:k",
    "SHUTDOWN",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "LASTSAVE",
    "REPLICAOF NO ONE",
    "SLAVEOF NO ONE",
    "FAILOVER",
    "PSYNC ? -1",
    "SYNC",
    "REPLCONF listening-port 1",
    "ROLE",
    "CLUSTER INFO",
    "MODULE LIST",
    "MODULE LOAD /tmp/x.so",
    "INFO",
    "INFO keyspace",
    "MONITOR",
    "SLOWLOG GET",
    "LATENCY LATEST",
    "MEMORY DOCTOR",
    "MEMORY STATS",
    "MEMORY PURGE",
    "PFDEBUG GETREG shop:p",
    "PFSELFTEST",
    "WAIT 0 1",
    // Other people's connections.
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 1",
    "CLIENT UNPAUSE",
    "CLIENT UNBLOCK 1",
    "CLIENT NO-EVICT on",
    "CLIENT TRACKING on BCAST",
    "CLIENT CACHING yes",
    "CLIENT GETREDIR",
    // Channels of others, by name and by pattern.
    "PUBLISH other:c x",
    "PUBLISH plain x",
    "SPUBLISH other:c x",
    "SUBSCRIBE other:c",
    "SUBSCRIBE __keyevent@0__:set",
    "PSUBSCRIBE *",
    "PSUBSCRIBE shop*",
    "PSUBSCRIBE other:*",
    "SSUBSCRIBE other:c",
    "PUBSUB CHANNELS",
    "PUBSUB NUMSUB other:c",
    // Scripts and functions, which belong to the server.
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "SCRIPT DEBUG YES",
    "FUNCTION LIST",
    "FUNCTION FLUSH",
    "FUNCTION KILL",
    "FUNCTION DUMP",
    "FCALL f 0",
    "FCALL_RO f 0",
    "EVAL \"return redis.call('GET','other:secret')\" 0",
    "EVAL \"return redis.call('GET',KEYS[1])\" 1 other:secret",
    "EVAL \"return redis.call('GET',ARGV[1])\" 0 other:secret",
    "EVAL \"return redis.call('SET','other:secret','x')\" 0",
    "EVAL \"return redis.call('KEYS','*')\" 0",
    "EVAL \"return redis.call('SCAN','0')\" 0",
    "EVAL \"return redis.call('SELECT','1')\" 0",
    "EVAL \"return redis.call('FLUSHALL')\" 0",
    "EVAL \"return redis.call('PUBLISH','other:c','x')\" 0",
    "EVAL \"return redis.call('SORT','shop:l','GET','other:secret')\" 0",
    "EVAL \"return redis.call('CONFIG','GET','*')\" 0",
    "EVAL \"return os.execute('id')\" 0",
    "EVAL \"return dofile('/etc/passwd')\" 0",
    "EVAL \"return loadstring('return redis.call(\\\"GET\\\",\\\"other:secret\\\")')()\" 0",
    "EVAL_RO \"return redis.call('GET','other:secret')\" 0",
];

/// How the server says that it is a right that is lacking, and no mistake in the command.
const REFUSALS: &[&str] = &[
    "-NOPERM",
    "denied due to insufficient ACL permissions",
    "The user executing the script can't",
    "nonexistent global variable",
    "not allowed from script",
];

/// Everything but our own logins' prefix, and what the server counts up by itself.
fn rest_of(server: &Server) -> String {
    let mut text = String::new();
    for database in ["0", "1"] {
        let listed = server.run(&["-n", database, "KEYS", "*"]);
        let mut keys: Vec<&str> = listed.lines().filter(|k| !k.starts_with("shop:")).collect();
        keys.sort_unstable();
        text.push_str(&format!("{database}: {keys:?}\n"));
    }
    for words in [
        &["GET", "other:secret"][..],
        &["GET", "plain"],
        &["LRANGE", "other:list", "0", "-1"],
        &["SMEMBERS", "other:set"],
        &["TTL", "other:secret"],
        &["HGETALL", "freehold:server"],
        &["HGETALL", "freehold:database:shop"],
        &["ACL", "LIST"],
    ] {
        text.push_str(&server.run(words));
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn nothing_leads_out_of_the_prefix() {
    let world = world().await;
    let before = rest_of(&world.server);
    for login in ["boss_a", "app_a", "report_a"] {
        for line in LEADING_OUT {
            // A session of its own for each: some of them would change what the next one means.
            let mut session = Session::open(&world.server, &credentials(login));
            let answer = session.say(line);
            let refused = REFUSALS.iter().any(|words| answer.contains(words));
            assert!(
                answer.starts_with('-') && refused,
                "{login} {line}: {answer}"
            );
            assert!(!answer.contains("treasure"), "{login} {line}: {answer}");
        }
    }
    assert_eq!(rest_of(&world.server), before);
    assert!(world.server.pid().is_some(), "the server runs");
}

#[tokio::test]
async fn programs_do_their_work() {
    let world = world().await;
    let mut app = Session::open(&world.server, &credentials("app_a"));
    for (line, expected) in [
        ("PING", "+PONG"),
        ("ACL WHOAMI", "app_a"),
        ("CLIENT SETNAME app", "+OK"),
        ("SET shop:k v2 EX 100", "+OK"),
        ("GET shop:k", "v2"),
        ("INCR shop:n", ":1"),
        ("HSET shop:h f v", ":0"),
        ("HGETALL shop:h", "f v"),
        ("LPUSH shop:q a b", ":2"),
        ("BRPOP shop:q 1", "shop:q a"),
        ("SADD shop:s 2", ":1"),
        ("ZADD shop:z 2 n", ":1"),
        ("ZRANGE shop:z 0 -1", "m n"),
        ("PFADD shop:p a", ":1"),
        ("PFCOUNT shop:p", ":1"),
        ("SORT shop:l", "1 2"),
        ("XGROUP CREATE shop:x g 0", "+OK"),
        ("XPENDING shop:x g", ":0 $-1 $-1 *-1"),
        ("RENAME shop:n shop:m", "+OK"),
        ("DEL shop:m", ":1"),
        ("EVAL \"return redis.call('GET',KEYS[1])\" 1 shop:k", "v2"),
        ("EVAL \"return redis.call('GET','shop:k')\" 0", "v2"),
        ("PUBLISH shop:c hello", ":0"),
        ("MULTI", "+OK"),
        ("SET shop:k v3", "+QUEUED"),
        ("GET shop:k", "+QUEUED"),
        ("EXEC", "+OK v3"),
        ("WATCH shop:k", "+OK"),
        ("UNWATCH", "+OK"),
        ("HSCAN shop:h 0", "0 f v"),
        ("MEMORY USAGE shop:none", "$-1"),
    ] {
        assert_eq!(app.say(line), expected, "{line}");
    }
    let mut listener = Session::open(&world.server, &credentials("report_a"));
    assert_eq!(listener.say("SUBSCRIBE shop:c"), "subscribe shop:c :1");
    assert_eq!(listener.say("PSUBSCRIBE shop:*"), "psubscribe shop:* :2");
    assert_eq!(app.say("PUBLISH shop:c hello"), ":2");
    assert_eq!(listener.hear(), "message shop:c hello");
}

#[tokio::test]
async fn readers_read_and_nothing_else() {
    let world = world().await;
    let mut report = Session::open(&world.server, &credentials("report_a"));
    for (line, expected) in [
        ("GET shop:k", "v"),
        ("LRANGE shop:l 0 -1", "2 1"),
        ("SORT_RO shop:l", "1 2"),
        ("EVAL_RO \"return redis.call('GET',KEYS[1])\" 1 shop:k", "v"),
    ] {
        assert_eq!(report.say(line), expected, "{line}");
    }
    for line in [
        "SET shop:k x",
        "DEL shop:k",
        "EXPIRE shop:k 1",
        "GETEX shop:k EX 1",
        "SORT shop:l STORE shop:l2",
        "PUBLISH shop:c x",
        "EVAL \"return redis.call('SET','shop:k','x')\" 0",
        "EVAL_RO \"return redis.call('SET','shop:k','x')\" 0",
        "RESTORE shop:r 0 x",
    ] {
        let answer = report.say(line);
        assert!(answer.starts_with('-'), "{line}: {answer}");
    }
    assert_eq!(world.server.run(&["GET", "shop:k"]), "v");
    // Loading bytes is the owner's.
    let mut app = Session::open(&world.server, &credentials("app_a"));
    assert!(app.say("RESTORE shop:r 0 x").starts_with("-NOPERM"));
    let mut boss = Session::open(&world.server, &credentials("boss_a"));
    let answer = boss.say("RESTORE shop:r 0 x");
    assert!(answer.contains("DUMP payload"), "{answer}");
}

#[tokio::test]
async fn a_transaction_that_reaches_outside_does_nothing_at_all() {
    let world = world().await;
    let mut app = Session::open(&world.server, &credentials("app_a"));
    assert_eq!(app.say("MULTI"), "+OK");
    assert_eq!(app.say("SET shop:k changed"), "+QUEUED");
    assert!(app.say("GET other:secret").starts_with("-NOPERM"));
    assert!(app.say("EXEC").starts_with("-EXECABORT"));
    assert_eq!(app.say("GET shop:k"), "v");
    // A right that is taken between the queueing and the running is gone.
    assert_eq!(app.say("MULTI"), "+OK");
    assert_eq!(app.say("SET shop:k late"), "+QUEUED");
    let [mut shop, _] = neighbours();
    shop.accesses[0].level = freehold_model::kinds::AccessLevel::ReadOnly;
    world.apply(&shop, 1).await.expect("the access is lowered");
    let answer = app.say("EXEC");
    assert!(answer.contains("-NOPERM"), "{answer}");
    assert_eq!(world.server.run(&["GET", "shop:k"]), "v");
}

#[tokio::test]
async fn clear_passwords_never_reach_the_server() {
    let world = World::start();
    let mut listener = Session::open(&world.server, &world.server.admin_login());
    assert_eq!(listener.say("MONITOR"), "+OK");
    let [shop, _] = neighbours();
    world.provision(&shop).await;
    world.server.run(&["SET", "end", "1"]);
    let mut heard = String::new();
    while !heard.contains("\"SET\" \"end\"") {
        heard.push_str(&listener.hear());
    }
    heard.push_str(&world.server.kept_accounts());
    heard.push_str(&world.server.log());
    let append_only = world.server.data_dir().join("appendonlydir");
    for file in fs::read_dir(append_only).expect("data is kept") {
        let bytes = fs::read(file.expect("a file").path()).expect("it can be read");
        heard.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(heard.contains("freehold:database:shop"));
    assert!(!heard.contains("pass of"), "{heard}");
}
