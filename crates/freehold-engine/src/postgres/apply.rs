//! Runs actions under the fence.
//!
//! Consecutive actions with the same effect (`grant on database "shop"`) run as one transaction and
//! pass the gate once. What happens in the registry's database travels in one message: the fence,
//! the statements, the commit. What happens inside a database runs there while the registry's row
//! stays locked (see `registry.rs`). A repair keeps effects small, so that what an admin may not do
//! stands alone; a database that is made for the first time ([`birth`](super::birth)) has few large
//! ones.

use std::{collections::BTreeSet, fmt::Write as _};

use freehold_model::{Gate, kinds::Difference};

use super::{
    connect::{self, Connection, Lease, Permit, Pool},
    plan::{Action, On, RoleChange, SessionsOf},
    quote::{Identifier, Literal},
    registry::{Claim, INSIDE_MARK},
    render::{record_database, render},
};
use crate::{EngineError, Fault, Result};

/// Whoever may, keeps even the verifier out of the server's log. A message is logged before it runs,
/// so this is a message of its own.
const QUIET: &str = "SET log_statement = 'none'; SET log_min_duration_statement = -1; \
    SET log_min_error_statement = 'panic'; SET log_duration = off";
const LOUD: &str = "RESET log_statement; RESET log_min_duration_statement; \
    RESET log_min_error_statement; RESET log_duration";

/// Where an effect happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Registry,
    /// `CREATE DATABASE` cannot be in a transaction.
    Alone,
    /// Ends sessions and waits until they are gone.
    Ending,
    /// Inside the database, as the admin.
    InsideAdmin,
    /// Inside the database, acting as the owner role.
    InsideOwner,
    /// Nothing to do.
    Nowhere,
}

struct Effect<'a> {
    what: String,
    place: Place,
    actions: Vec<&'a Action>,
}

/// What applying a plan came to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// In the order of the plan; those that the admin was not allowed to repair say so.
    pub(crate) differences: Vec<Difference>,
    /// Keys of the latter.
    pub(crate) refused: BTreeSet<String>,
}

/// Runs the effects of one database.
pub(crate) struct Applier<'a> {
    pub(crate) admin: &'a Connection,
    pub(crate) pool: &'a std::sync::Arc<Pool>,
    pub(crate) claim: &'a Claim,
    pub(crate) gate: &'a Gate,
    pub(crate) owner: String,
    /// The right to the second connection, until it is opened.
    pub(crate) permit: Option<Permit>,
    pub(crate) inner: Option<Lease>,
}

impl<'a> Applier<'a> {
    /// The connection into the database; opened when it is first needed.
    pub(crate) async fn inner(&mut self) -> Result<&Connection> {
        if self.inner.is_none() {
            let permit = match self.permit.take() {
                Some(permit) => permit,
                None => self.pool.permit(1).await?,
            };
            let lease = self
                .pool
                .inside(permit, &self.claim.name, INSIDE_MARK)
                .await?;
            self.inner = Some(lease);
        }
        self.inner
            .as_deref()
            .ok_or_else(|| EngineError::new(Fault::Undetermined, "open a connection"))
    }

    /// Runs a plan. What the admin may not do is noted and the rest goes on; what is essential stops
    /// it.
    pub(crate) async fn run(&mut self, actions: &[Action]) -> Result<Applied> {
        let mut applied = Applied::default();
        for effect in effects(&self.claim.name, actions) {
            let outcome = self.effect(&effect).await;
            let refusal = match outcome {
                Ok(()) => None,
                Err(error) if effect.may_be_refused() && is_refusal(&error) => Some(error),
                Err(error) => return Err(error),
            };
            for action in &effect.actions {
                let mut difference = action.difference(&self.claim.name);
                difference.repaired = effect.place != Place::Nowhere && refusal.is_none();
                if let Some(refusal) = &refusal {
                    let _ = write!(difference.message, " Not repaired: {}.", refusal.fault);
                    applied.refused.insert(difference.key.clone());
                }
                applied.differences.push(difference);
            }
        }
        Ok(applied)
    }

    async fn effect(&mut self, effect: &Effect<'_>) -> Result<()> {
        if effect.place == Place::Nowhere {
            return Ok(());
        }
        self.gate.before(&effect.what).await?;
        match effect.place {
            Place::Nowhere => {}
            Place::Registry => {
                let statements = self.statements(&effect.actions)?;
                let secret = effect.is_secret();
                self.in_registry_quietly(secret, &statements, &effect.what)
                    .await?;
            }
            Place::Alone => self.create_database().await?,
            Place::Ending => {
                for action in &effect.actions {
                    if let Action::EndSessions { of, .. } = action {
                        self.end_sessions(of).await?;
                    }
                }
            }
            Place::InsideAdmin => {
                let statements = self.statements(&effect.actions)?;
                self.inside(&statements, &effect.what).await?;
            }
            Place::InsideOwner => {
                let owner = Identifier::new(&self.owner)?;
                let statements = self.statements(&effect.actions)?;
                let statements = format!("SET LOCAL ROLE {owner}; {statements}");
                self.inside(&statements, &effect.what).await?;
            }
        }
        self.gate.after(&effect.what).await?;
        Ok(())
    }

    fn statements<'b>(&self, actions: impl IntoIterator<Item = &'b &'b Action>) -> Result<String> {
        let mut text = String::new();
        for action in actions {
            render(&self.claim.name, &self.owner, action, self.admin, &mut text)?;
        }
        Ok(text)
    }

    /// Several actions in the registry's database as one effect, with statements of the registry's
    /// own before and after them. False when the server refused one of them: then none took hold.
    pub(crate) async fn together(
        &self,
        what: &str,
        [first, last]: [&str; 2],
        actions: &[&Action],
    ) -> Result<bool> {
        let statements = format!("{first} {} {last}", self.statements(actions)?);
        self.gate.before(what).await?;
        let secret = actions.iter().any(|action| action.is_secret());
        match self.in_registry_quietly(secret, &statements, what).await {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.gate.after(what).await?;
        Ok(true)
    }

    /// Several actions inside the database as one effect, each acting as who it must. False when the
    /// server refused one of them: then none took hold.
    pub(crate) async fn together_inside(
        &mut self,
        what: &str,
        actions: &[&Action],
    ) -> Result<bool> {
        let owner = Identifier::new(&self.owner)?;
        let mut statements = String::new();
        let mut acting = Place::InsideAdmin;
        for action in actions {
            let (_, place) = effect_of(&self.claim.name, action);
            if place != acting {
                statements.push_str(&match place {
                    Place::InsideOwner => format!("SET LOCAL ROLE {owner}; "),
                    _ => "SET LOCAL ROLE NONE; ".to_owned(),
                });
                acting = place;
            }
            statements.push_str(&self.statements([action])?);
        }
        self.gate.before(what).await?;
        match self.inside(&statements, what).await {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.gate.after(what).await?;
        Ok(true)
    }

    /// One fenced transaction that, where we may decide that, leaves no trace in the server's log.
    async fn in_registry_quietly(&self, secret: bool, statements: &str, doing: &str) -> Result<()> {
        let quiet = secret && self.admin.superuser;
        if quiet {
            self.admin
                .change(QUIET, "keep a verifier out of the log")
                .await?;
        }
        let done = self.in_registry(statements, doing).await;
        // After any other failure the session is given up.
        let goes_on = done.as_ref().err().is_none_or(is_refusal);
        if quiet && goes_on {
            self.admin.change(LOUD, "log as before").await?;
        }
        done
    }

    /// One fenced transaction in the registry's database.
    pub(crate) async fn in_registry(&self, statements: &str, doing: &str) -> Result<()> {
        let hold = self.claim.hold()?;
        let message = format!("BEGIN; {hold}; {statements} COMMIT");
        let result = connect::retrying(|| {
            Box::pin(async {
                let result = self.admin.change(&message, doing).await;
                if result.is_err() {
                    self.admin.roll_back().await;
                }
                result
            })
        })
        .await;
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.claim.explain(self.admin, error).await),
        }
    }

    /// One transaction inside the database, while the registry's row is locked and the fence holds.
    async fn inside(&mut self, statements: &str, doing: &str) -> Result<()> {
        // The inner session exists before the fence is checked: that is what makes it safe.
        self.inner().await?;
        let (admin, claim) = (self.admin, self.claim);
        // The epoch was raised for good when the row was taken; what this transaction writes is only
        // the lock, which a crash of the server may forget.
        let hold = format!(
            "BEGIN; SET LOCAL synchronous_commit = off; {}",
            claim.hold()?
        );
        let held = admin.change(&hold, doing).await;
        if let Err(error) = held {
            admin.roll_back().await;
            return Err(claim.explain(admin, error).await);
        }
        let inner = self.inner().await?;
        let message = format!("BEGIN; {statements} COMMIT");
        let result = connect::retrying(|| {
            Box::pin(async {
                let result = inner.change(&message, doing).await;
                if result.is_err() {
                    inner.roll_back().await;
                }
                result
            })
        })
        .await;
        match result {
            // The inner work is done whatever becomes of this commit, which only says so.
            Ok(()) => admin.change("COMMIT", doing).await,
            Err(error) => {
                admin.roll_back().await;
                Err(error)
            }
        }
    }

    /// Says that it will be made, makes it, and says that it was: killed anywhere, the registry
    /// knows whether a database of this name is ours.
    async fn create_database(&self) -> Result<()> {
        let doing = format!("create database {:?}", self.claim.name);
        self.in_registry(&self.announcement()?, &doing).await?;
        self.make_database(&doing).await?;
        self.in_registry(&self.record()?, &doing).await
    }

    /// What goes before [`make_database`](Self::make_database). A failure after it drops the session,
    /// and its longer limit with it.
    pub(crate) fn announcement(&self) -> Result<String> {
        let row = Literal::new(&self.claim.name)?;
        let longer = self.admin.timeouts().create_database.as_millis();
        Ok(format!(
            "UPDATE freehold.registry SET state = 'creating' WHERE name = {row}; \
             SET statement_timeout = {longer};"
        ))
    }

    /// What goes after it.
    pub(crate) fn record(&self) -> Result<String> {
        let row = Literal::new(&self.claim.name)?;
        Ok(format!("{} {}", record_database(&row), self.usual_limit()))
    }

    pub(crate) fn usual_limit(&self) -> String {
        let usual = self.admin.timeouts().statement.as_millis();
        format!("SET statement_timeout = {usual};")
    }

    /// The statement that cannot be in a transaction; the session holds the row's lock.
    pub(crate) async fn make_database(&self, doing: &str) -> Result<()> {
        let name = Identifier::new(&self.claim.name)?;
        // Before 15 the schema public of template0 belongs to the superuser and everybody may
        // create in it. An admin without that right uses template1, where a superuser can have
        // settled it once.
        let template = if self.admin.version.major < 15 && !self.admin.superuser {
            "template1"
        } else {
            "template0"
        };
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template} CONNECTION LIMIT 0");
        let longer = self.admin.timeouts().create_database;
        self.admin.change_within(longer, &statement, doing).await
    }

    /// Ends sessions, looks again, and again until none is left.
    pub(crate) async fn end_sessions(&self, of: &SessionsOf) -> Result<()> {
        const LOOKS: u32 = 10;
        let database = Literal::new(&self.claim.name)?;
        let (whose, doing) = match of {
            SessionsOf::Login(login) => (
                format!("usename = {}", Literal::new(login)?),
                format!("end sessions of {login:?}"),
            ),
            SessionsOf::Role(role) => (
                format!("usename = {} AND datname = {database}", Literal::new(role)?),
                format!("end sessions of {role:?} in {:?}", self.claim.name),
            ),
            SessionsOf::Everybody => (
                format!(
                    "datname = {database} AND usename <> current_user \
                     AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = usesysid)"
                ),
                format!("end sessions in {:?}", self.claim.name),
            ),
        };
        self.in_registry("", &doing).await?;
        let query = format!(
            "SELECT count(*), count(*) FILTER (WHERE pg_terminate_backend(pid, 1000)) \
             FROM pg_stat_activity WHERE {whose} AND pid <> pg_backend_pid()"
        );
        for _ in 0..LOOKS {
            let rows = self.admin.read(&query, &[], &doing).await?;
            let found: i64 = rows.first().map_or(0, |row| row.get(0));
            if found == 0 {
                return Ok(());
            }
        }
        let detail = "new sessions keep coming or old ones do not end".to_owned();
        Err(EngineError::new(Fault::Busy { detail }, doing))
    }
}

/// What a refusal may be of: a right that the admin lacks, an extension that is not there.
fn is_refusal(error: &EngineError) -> bool {
    match &error.fault {
        Fault::Denied { .. } => true,
        Fault::Statement(statement) => {
            // Not supported or no such file (an extension that is not installed), in use, gone in
            // the meantime, others depend on it, not the grantor.
            let class = statement.sqlstate.get(..2).unwrap_or("");
            ["0A", "58", "55", "2B", "0L"].contains(&class) || statement.sqlstate == "42704"
        }
        _ => false,
    }
}

impl Effect<'_> {
    fn is_secret(&self) -> bool {
        self.actions.iter().any(|action| action.is_secret())
    }

    /// Without these the database is not usable at all; failing them is an error, not a difference.
    fn may_be_refused(&self) -> bool {
        !self.actions.iter().any(|action| match action {
            Action::CreateRole { .. }
            | Action::CreateDatabase
            | Action::RecordDatabase
            | Action::SetPassword { .. } => true,
            // A role that is none of ours may be one that the admin cannot end; what else there is to do
            // must not wait for that.
            Action::EndSessions { of, .. } => !matches!(of, SessionsOf::Role(_)),
            Action::AlterRole { changes, .. } => changes
                .iter()
                .any(|change| matches!(change, RoleChange::Login(_))),
            _ => false,
        })
    }
}

fn effects<'a>(database: &str, actions: &'a [Action]) -> Vec<Effect<'a>> {
    let mut effects: Vec<Effect<'a>> = Vec::new();
    for action in actions {
        let (what, place) = effect_of(database, action);
        match effects.last_mut() {
            Some(last) if last.what == what && last.place == place => last.actions.push(action),
            _ => effects.push(Effect {
                what,
                place,
                actions: vec![action],
            }),
        }
    }
    effects
}

/// The stable name of the effect that an action is part of.
fn effect_of(database: &str, action: &Action) -> (String, Place) {
    match action {
        Action::CreateRole { role, .. } => (format!("create role {role:?}"), Place::Registry),
        Action::AlterRole { role, .. } => (format!("alter role {role:?}"), Place::Registry),
        Action::SetPassword { login, .. } => {
            (format!("set password of {login:?}"), Place::Registry)
        }
        Action::GrantMembership { .. } => (format!("grant roles of {database:?}"), Place::Registry),
        Action::RevokeMembership { role, member, .. } => (
            format!("revoke role {role:?} from {member:?}"),
            Place::Registry,
        ),
        Action::Set { role, name, .. } => {
            let whose = role.as_deref().unwrap_or(database);
            // The one setting that an admin may be refused stands alone.
            let what = if name == "temp_file_limit" {
                format!("set {name} of {whose:?}")
            } else {
                format!("settings of {database:?}")
            };
            (what, Place::Registry)
        }
        Action::CreateDatabase => (format!("create database {database:?}"), Place::Alone),
        Action::RecordDatabase => (format!("record database {database:?}"), Place::Registry),
        Action::DatabaseOwner { .. } => (format!("own database {database:?}"), Place::Registry),
        Action::DatabaseConnections { .. } | Action::DatabaseAllow => {
            (format!("limit database {database:?}"), Place::Registry)
        }
        Action::EndSessions { of, .. } => {
            let whose = match of {
                SessionsOf::Login(role) | SessionsOf::Role(role) => format!("of {role:?}"),
                SessionsOf::Everybody => format!("in {database:?}"),
            };
            (format!("end sessions {whose}"), Place::Ending)
        }
        Action::Grant {
            on: On::Database, ..
        }
        | Action::Revoke {
            on: On::Database, ..
        } => (format!("grant on database {database:?}"), Place::Registry),
        Action::Grant { .. } | Action::Revoke { .. } | Action::CreateSchema { .. } => {
            (format!("grant inside {database:?}"), Place::InsideOwner)
        }
        Action::SchemaOwner { schema, .. } => (
            format!("own schema {schema:?} of {database:?}"),
            Place::InsideAdmin,
        ),
        Action::CreateExtension { extension } => (
            format!("create extension {extension:?} in {database:?}"),
            Place::InsideAdmin,
        ),
        Action::Reassign { login, .. } => (
            format!("reassign objects of {login:?} in {database:?}"),
            Place::InsideAdmin,
        ),
        Action::Report { .. } => (String::new(), Place::Nowhere),
    }
}
