//! What is there, as plain values: accounts as `ACL GETUSER` and `ACL LIST` tell of them, and how many
//! connections each has.

use std::collections::{BTreeMap, BTreeSet};

use freehold_model::Uid;
use redis::Value;

use super::{
    connect::{AccountsKept, Connection, command},
    names::DatabaseName,
    plan::Goal,
    registry::{self, Claim, Standing},
    reply,
    rules::{self, Spelling},
};
use crate::Result;

/// An account, as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) enabled: bool,
    /// Any password will do.
    pub(super) open_to_all: bool,
    /// Hashes, in hexadecimal.
    pub(super) passwords: BTreeSet<String>,
    /// As the server writes them, in order of their letters: its own order changes while it runs.
    pub(super) commands: String,
    /// Patterns with what they allow, e.g. `%R~shop:*`.
    pub(super) keys: Vec<String>,
    pub(super) channels: Vec<String>,
    pub(super) selectors: Vec<Selector>,
}

/// Further rights, of which any may apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) commands: String,
    pub(super) keys: Vec<String>,
    pub(super) channels: Vec<String>,
}

impl User {
    /// From `ACL GETUSER`; `None` when there is no such account.
    pub(super) fn read(reply: &Value) -> Option<Self> {
        let facts = reply::map(reply);
        let flags = reply::texts(facts.get("flags")?);
        let has = |flag: &str| flags.iter().any(|found| found == flag);
        let selectors = facts
            .get("selectors")
            .map_or(&[][..], |all| reply::list(all));
        Some(Self {
            enabled: has("on"),
            open_to_all: has("nopass"),
            passwords: reply::texts(facts.get("passwords")?).into_iter().collect(),
            commands: sorted(&text(&facts, "commands")),
            keys: patterns(&facts, "keys"),
            channels: patterns(&facts, "channels"),
            selectors: selectors
                .iter()
                .map(|selector| {
                    let facts = reply::map(selector);
                    Selector {
                        commands: sorted(&text(&facts, "commands")),
                        keys: patterns(&facts, "keys"),
                        channels: patterns(&facts, "channels"),
                    }
                })
                .collect(),
        })
    }

    /// From a line of `ACL LIST`, with the account's name.
    pub(super) fn parse(line: &str) -> Option<(String, Self)> {
        let mut words = line.strip_prefix("user ")?.split(' ');
        let name = words.next()?.to_owned();
        let mut user = Self::default();
        let mut root = Selector::default();
        let mut inner: Option<Selector> = None;
        for word in words {
            let (word, opens) = match (word.strip_prefix('('), &inner) {
                (Some(rest), None) => (rest, true),
                _ => (word, false),
            };
            if opens {
                inner = Some(Selector::default());
            }
            let ends = inner.is_some() && word.ends_with(')');
            let word = if ends { &word[..word.len() - 1] } else { word };
            match word {
                "on" => user.enabled = true,
                "nopass" => user.open_to_all = true,
                word => match word.strip_prefix('#') {
                    Some(hash) => {
                        user.passwords.insert(hash.to_owned());
                    }
                    None => inner.as_mut().unwrap_or(&mut root).take(word),
                },
            }
            if ends {
                user.selectors.extend(inner.take());
            }
        }
        for selector in user.selectors.iter_mut().chain([&mut root]) {
            selector.commands = sorted(&selector.commands);
        }
        (user.commands, user.keys, user.channels) = (root.commands, root.keys, root.channels);
        Some((name, user))
    }

    /// Carries the mark of this owner.
    pub(super) fn is_owned_by(&self, owner: Uid) -> bool {
        self.owners().any(|found| found == owner)
    }

    /// Whose marks it carries; one, unless a hand was at work.
    pub(super) fn owners(&self) -> impl Iterator<Item = Uid> {
        let marks = self.selectors.iter().flat_map(|selector| &selector.keys);
        marks.filter_map(|key| {
            let uid = key.strip_prefix("~freehold:owned:")?.parse().ok()?;
            // Only what we would write: another spelling of the same is not ours.
            (key.strip_prefix('~') == Some(&rules::marked(uid))).then_some(uid)
        })
    }
}

impl Selector {
    fn take(&mut self, word: &str) {
        match word.chars().next() {
            Some('~' | '%') => self.keys.push(word.to_owned()),
            Some('&') => self.channels.push(word.to_owned()),
            Some('+' | '-') => {
                if !self.commands.is_empty() {
                    self.commands.push(' ');
                }
                self.commands.push_str(word);
            }
            // `off`, `resetchannels`, `sanitize-payload` and what versions may add.
            _ => {}
        }
    }
}

fn text(facts: &BTreeMap<String, &Value>, name: &str) -> String {
    facts
        .get(name)
        .and_then(|value| reply::text(value))
        .unwrap_or_default()
}

/// Each command stands once in what the server writes, so nothing is lost with the order.
fn sorted(commands: &str) -> String {
    let mut words: Vec<&str> = commands.split_whitespace().collect();
    words.sort_unstable();
    words.join(" ")
}

fn patterns(facts: &BTreeMap<String, &Value>, name: &str) -> Vec<String> {
    let all = text(facts, name);
    all.split_whitespace().map(str::to_owned).collect()
}

/// Everything that a plan is made from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observed {
    pub(super) standing: Standing,
    /// Of the logins that were asked for, those that exist.
    pub(super) users: BTreeMap<String, User>,
    pub(super) sessions: BTreeMap<String, u32>,
    /// Seconds since 1970, by the server's clock.
    pub(super) now: i64,
    pub(super) accounts_kept: AccountsKept,
    pub(super) spelling: Spelling,
    /// Accounts of nobody's that may reach keys of this database, with the pattern.
    pub(super) strangers: Vec<(String, String)>,
}

/// Looks at one database and its logins. Refuses who is not the owner, or not any more. `strangers` are
/// not looked for again.
pub(super) async fn look(
    admin: &mut Connection,
    goal: &Goal,
    claim: &Claim,
    strangers: Option<Vec<(String, String)>>,
) -> Result<Observed> {
    let doing = "look at the accounts";
    let found = registry::find(admin, &claim.name).await?;
    let standing = claim.check(&found, &admin.server.place)?;
    let spelling = rules::spelling(admin).await?;
    let mut commands = vec![command(&["TIME"]), command(&["CLIENT", "LIST"])];
    let logins: Vec<&str> = goal
        .logins
        .iter()
        .map(|login| login.name.as_str())
        .collect();
    commands.extend(
        logins
            .iter()
            .map(|login| command(&["ACL", "GETUSER", login])),
    );
    let replies = admin.read(&commands, doing).await?;
    let time = replies
        .first()
        .and_then(|time| reply::texts(time).first()?.parse().ok());
    let strangers = match strangers {
        Some(known) => known,
        None => strangers_to(&claim.name, &admin.server.admin.clone(), &all(admin).await?),
    };
    Ok(Observed {
        standing,
        users: logins
            .iter()
            .zip(replies.iter().skip(2))
            .filter_map(|(login, reply)| Some(((*login).to_owned(), User::read(reply)?)))
            .collect(),
        sessions: replies.get(1).map(reply::sessions).unwrap_or_default(),
        now: time.unwrap_or(0),
        accounts_kept: admin.server.accounts_kept,
        spelling,
        strangers,
    })
}

/// All accounts of the server.
pub(super) async fn all(admin: &mut Connection) -> Result<BTreeMap<String, User>> {
    let asked = [command(&["ACL", "LIST"])];
    let replies = admin.read(&asked, "list the accounts").await?;
    let lines = replies.first().map(reply::texts).unwrap_or_default();
    Ok(lines.iter().filter_map(|line| User::parse(line)).collect())
}

/// Accounts with a pattern of their own that leads here. Who may use every key is an administrator, or
/// was there before us, and is told of once for the whole server.
pub(super) fn strangers_to(
    database: &DatabaseName,
    admin: &str,
    users: &BTreeMap<String, User>,
) -> Vec<(String, String)> {
    let mut strangers = Vec::new();
    for (name, user) in users {
        let ours = user.owners().next().is_some() || DatabaseName::of_row(name).is_some();
        if ours || !user.enabled || name == admin {
            continue;
        }
        let further = user.selectors.iter().flat_map(|selector| &selector.keys);
        let reaching = user.keys.iter().chain(further).find(|rule| {
            let pattern = rule.split_once('~').map_or("", |(_, pattern)| pattern);
            pattern != "*" && super::names::may_reach(pattern, database)
        });
        strangers.extend(reaching.map(|rule| (name.clone(), rule.clone())));
    }
    strangers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_is_read() {
        let uid = "01900000-0000-7000-8000-000000000000";
        let line = format!(
            "user shop_a on sanitize-payload #ab ~shop:* resetchannels &shop:* -@all +get \
             (~freehold:owned:{uid} resetchannels -@all)"
        );
        let (name, user) = User::parse(&line).expect("a line");
        assert_eq!((name.as_str(), user.enabled), ("shop_a", true));
        assert_eq!(user.commands, "+get -@all");
        assert_eq!((user.keys.len(), user.channels.len()), (1, 1));
        assert!(user.is_owned_by(uid.parse().expect("a uid")), "{user:?}");
        let (_, other) = User::parse("user x off nopass ~a(b) -@all").expect("a line");
        assert_eq!(other.keys, ["~a(b)"]);
        assert!(other.selectors.is_empty() && other.open_to_all && !other.enabled);
    }

    #[test]
    fn who_may_reach_a_database_without_being_ours_is_a_stranger() {
        let users = [
            "user root on ~* &* +@all",
            "user wild on ~s* -@all +get",
            "user off off ~shop:* -@all +get",
            "user hidden on -@all (%R~shop:x -@all +get)",
            "user other on ~shopping:* -@all +get",
        ];
        let users = users.iter().filter_map(|line| User::parse(line)).collect();
        let shop = DatabaseName::new("shop").expect("a name");
        let found = strangers_to(&shop, "root", &users);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["hidden", "wild"]);
    }
}
