//! Building the control plane from a store, and running it.

use std::{ops::Deref, path::PathBuf, sync::Arc, time::Duration};

use freehold_audit::{Log, Sequencer, SequencerOptions, VerifyingKey};
use freehold_model::{Clock, Entropy, Error, Name, Result};
use freehold_store::{ChangePosition, StoreHandle};
use freehold_workflow::{Claims, Operations, Runner, RunnerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    credentials::Credentials,
    engines::Engines,
    identity::{self, Identity},
    journal::Journal,
    operations,
    options::Options,
    reconcilers,
    records::{Records, store_error},
    refused_logins::RefusedLogins,
    secrets::Sealer,
    tokens::Tokens,
};

/// The product's verbs. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

/// Everything the verbs, operations and reconcilers work with.
pub struct Parts {
    pub(crate) store: StoreHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) options: Options,
    pub(crate) records: Records,
    pub(crate) journal: Journal,
    pub(crate) credentials: Credentials,
    pub(crate) sealer: Sealer,
    pub(crate) tokens: Tokens,
    pub(crate) refused_logins: RefusedLogins,
    pub(crate) identity: Identity,
    pub(crate) log: Log,
    pub(crate) operations: Operations,
    pub(crate) claims: Claims,
    pub(crate) engines: Engines,
    /// Counts the news that concern the reconcilers.
    pub(crate) nudge: watch::Sender<u64>,
    /// Counts what the change feed brought.
    pub(crate) news: watch::Sender<u64>,
}

impl Deref for Control {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What [`Control::start`] gives back.
pub struct Started {
    pub control: Control,
    /// Present when this start made the first admin token and wrote it there.
    pub bootstrap_token_file: Option<PathBuf>,
}

impl Control {
    /// Opens the control plane on a store: makes what is missing, changes nothing else. Several
    /// servers may start on one store at once.
    pub async fn start(
        store: StoreHandle,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        options: Options,
    ) -> Result<Started> {
        let missing = store.capabilities().missing_for_control_plane();
        if !missing.is_empty() {
            return Err(Error::invalid(format!(
                "the {} store cannot keep the control plane's state: it lacks {}",
                store.capabilities().adapter,
                missing.join(", ")
            ))
            .hint("Use SQLite (the default) or PostgreSQL."));
        }
        Self::start_on_any_store(store, clock, entropy, options).await
    }

    /// As [`Control::start`], without asking whether the store's promises suffice. For tests.
    pub async fn start_on_any_store(
        store: StoreHandle,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        options: Options,
    ) -> Result<Started> {
        let sealer = Sealer::load(&options.key, &[], entropy.clone()).await?;
        sealer.check(&store).await?;
        let identity = identity::load_or_create(&store, &sealer, &clock, &entropy).await?;
        let parts = Parts {
            records: Records::new(store.clone()),
            journal: Journal {
                store: store.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
            },
            credentials: Credentials {
                store: store.clone(),
                sealer: sealer.clone(),
                entropy: entropy.clone(),
            },
            refused_logins: RefusedLogins::default(),
            tokens: Tokens::new(store.clone(), clock.clone(), entropy.clone()),
            log: Log::new(store.clone()),
            operations: Operations::new(store.clone(), clock.clone(), entropy.clone()),
            claims: Claims::new(
                store.clone(),
                entropy.clone(),
                options.gate.clone(),
                options.lease_ttl,
            ),
            engines: Engines::new(
                options.data_dir.clone(),
                options.confined(),
                entropy.clone(),
            ),
            nudge: watch::Sender::new(0),
            news: watch::Sender::new(0),
            identity,
            sealer,
            store,
            clock,
            entropy,
            options,
        };
        let control = Self(Arc::new(parts));
        control.define().await?;
        control.ensure_default_environment().await?;
        let bootstrap_token_file = control.bootstrap().await?;
        Ok(Started {
            control,
            bootstrap_token_file,
        })
    }

    async fn define(&self) -> Result<()> {
        self.records.define().await?;
        self.journal.define().await.map_err(store_error)?;
        self.credentials.define().await?;
        self.tokens.define().await?;
        operations::define(&self.store).await?;
        freehold_workflow::define(&self.store)
            .await
            .map_err(store_error)?;
        freehold_audit::define(&self.store)
            .await
            .map_err(store_error)
    }

    async fn bootstrap(&self) -> Result<Option<PathBuf>> {
        let path = self.options.data_dir.join("bootstrap-token");
        let journal = self.journal.clone();
        let made = self
            .tokens
            .bootstrap(&path, |token| {
                let mut entry = freehold_audit::Entry::new(
                    journal.clock.now(),
                    freehold_audit::Actor::freehold(),
                    "token.create",
                    None,
                );
                entry.reason = "first start".to_owned();
                entry.details = serde_json::json!({ "token": token });
                vec![journal.write(&entry)]
            })
            .await?;
        Ok(made.map(|_| path))
    }

    /// Runs the reconcilers, the operations and the audit log's sequencer until `shutdown`. Returns
    /// when all of them have stopped.
    pub async fn run(&self, shutdown: CancellationToken) {
        let sequencer = self.sequencer();
        tokio::join!(
            self.run_operations(shutdown.clone()),
            sequencer.run(shutdown.clone().cancelled_owned()),
            self.run_reconcilers(shutdown.clone()),
            reconcilers::housekeeping::run(self, shutdown.clone()),
            self.follow(shutdown.clone()),
        );
    }

    /// Closes the store, after [`Control::run`] has ended. Every later call is refused.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// The operations alone, a part of [`Control::run`] that the fault harness disturbs by itself.
    #[doc(hidden)]
    pub async fn run_operations(&self, shutdown: CancellationToken) {
        let config = RunnerConfig {
            worker: self.options.name.clone(),
            concurrency: self.options.workers,
            lease_ttl: self.options.lease_ttl,
            retry_first: self.options.retry_first,
            ..RunnerConfig::default()
        };
        let runner = Runner::new(
            self.store.clone(),
            self.clock.clone(),
            self.entropy.clone(),
            self.options.gate.clone(),
            config,
        );
        operations::register(runner, self).run(shutdown).await;
    }

    /// The reconcilers alone, a part of [`Control::run`] that the fault harness disturbs by itself.
    #[doc(hidden)]
    pub async fn run_reconcilers(&self, shutdown: CancellationToken) {
        tokio::join!(
            reconcilers::instances::run(self, shutdown.clone()),
            reconcilers::databases::run(self, shutdown),
        );
        self.claims.returned().await;
    }

    pub(crate) fn sequencer(&self) -> Sequencer {
        Sequencer::new(
            self.store.clone(),
            self.identity.audit_key.clone(),
            self.options.name.clone(),
            SequencerOptions::default(),
        )
    }

    /// Reads the change feed and tells the reconcilers and the watchers that there is news.
    async fn follow(&self, shutdown: CancellationToken) {
        const PAUSE: Duration = Duration::from_millis(200);
        const TROUBLE_PAUSE: Duration = Duration::from_secs(2);
        let mut after: Option<ChangePosition> = None;
        while !shutdown.is_cancelled() {
            let pause = match self.store.changes(after, 1000).await {
                Ok(found) => {
                    after = Some(found.next);
                    if found.changes.is_empty() {
                        PAUSE
                    } else {
                        self.news.send_modify(|count| *count += 1);
                        if found
                            .changes
                            .iter()
                            .any(|c| reconcilers::concerns(&c.collection))
                        {
                            self.nudge.send_modify(|count| *count += 1);
                        }
                        continue;
                    }
                }
                Err(error) if error.kind() == freehold_store::ErrorKind::Compacted => {
                    after = None;
                    PAUSE
                }
                Err(error) => {
                    tracing::warn!(%error, "the change feed cannot be read");
                    TROUBLE_PAUSE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Ticks whenever the store brought news.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The public half of the audit log's key, for `freehold audit verify --key`.
    pub fn audit_key(&self) -> &VerifyingKey {
        self.identity.audit_key.verifying_key()
    }

    pub(crate) fn default_environment(&self) -> &Name {
        &self.options.default_environment
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("name", &self.options.name)
            .finish_non_exhaustive()
    }
}
