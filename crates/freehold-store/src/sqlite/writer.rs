//! One thread that writes, many callers that wait for it.
//!
//! SQLite has one writer at a time whatever we do, and what costs is the sync at commit. So callers
//! queue their work, the thread takes all that waits, runs it in one transaction, commits once and
//! answers everyone after the commit. 32 writers share one sync instead of queueing for 32.
//!
//! A piece of work checks everything before it writes anything. Refusing therefore costs its
//! neighbours nothing: no savepoint is needed. A refusal may rest on what a neighbour has just written,
//! so it counts only when the transaction in which it was made has been committed. When work fails after it began to write (disk full,
//! a definition that cannot be built), the whole transaction is rolled back and each piece runs again
//! in a transaction of its own, so that only the guilty one fails.
//!
//! Other processes may have the file open too. `BEGIN IMMEDIATE` takes the file's write lock before
//! the first check reads, and waits for it as long as the busy timeout allows.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    thread,
};

use freehold_model::Clock;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    fault::{During, translate},
    file,
};
use crate::{Error, ErrorKind, Result, batch::truncate, index::Definitions};

/// Callers beyond these wait before they may queue.
const QUEUE: usize = 1_024;
/// Work in one transaction: enough to share a sync, few enough to answer soon.
const GROUP: usize = 256;

pub(super) const CLOSED: &str = "the store is closed; nothing was changed";

/// Why a piece of work did not succeed.
pub(super) enum Failure {
    /// It has written nothing.
    Refused(Error),
    /// It may have written something: the transaction must be rolled back.
    Spoilt(Error),
    Broken(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Spoilt(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Broken(error)
    }
}

/// What work finds when it runs: the open transaction.
pub(super) struct Desk<'a> {
    pub(super) connection: &'a Connection,
    /// The current ones, proven inside the transaction. Work that changes them replaces this.
    pub(super) definitions: &'a mut Arc<Definitions>,
    pub(super) now: Timestamp,
}

/// Work that keeps its answer until the commit is known.
trait Job: Send {
    fn run(&mut self, desk: &mut Desk<'_>) -> Result<(), Failure>;
    /// What came of it in a transaction that was not committed counts no more.
    fn forget(&mut self);
    fn answer(self: Box<Self>, outcome: Option<Error>);
}

struct Task<W, T> {
    work: W,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<W, T> Job for Task<W, T>
where
    W: FnMut(&mut Desk<'_>) -> Result<T, Failure> + Send,
    T: Send,
{
    fn run(&mut self, desk: &mut Desk<'_>) -> Result<(), Failure> {
        match (self.work)(desk) {
            Ok(value) => self.result = Some(Ok(value)),
            Err(Failure::Refused(error)) => self.result = Some(Err(error)),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.result = None;
    }

    fn answer(self: Box<Self>, outcome: Option<Error>) {
        let result = match (outcome, self.result) {
            // It was alone, so it was refused for what is committed, and had nothing to commit.
            (_, Some(Err(refused))) => Err(refused),
            (None, Some(result)) => result,
            (Some(error), _) => Err(error),
            (None, None) => unreachable!("work that ran has a result"),
        };
        // A caller that went away does not want its answer.
        drop(self.reply.send(result));
    }
}

/// What callers tell the thread.
enum Order {
    Work(Box<dyn Job>),
    /// Do what is queued already, take nothing more, close the connection.
    Close,
}

/// The callers' side.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Order>,
    /// Nothing is ever sent. Its other end goes when the connection has been closed.
    open: watch::Receiver<()>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        clock: Arc<dyn Clock>,
        published: Arc<RwLock<Arc<Definitions>>>,
    ) -> Result<Self> {
        let (queue, orders) = mpsc::channel(QUEUE);
        let (closed, open) = watch::channel(());
        let known = Arc::clone(&published.read().unwrap_or_else(PoisonError::into_inner));
        let thread = WriterThread {
            connection,
            path,
            clock,
            known,
            published,
            _closed: closed,
        };
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run(orders))
            .map_err(|source| {
                Error::new(ErrorKind::Unavailable, "the store's writer cannot start")
                    .because(source)
            })?;
        Ok(Self { queue, open })
    }

    /// Comes back when everything that was queued has been answered and the connection is closed.
    pub(super) async fn close(&self) {
        // It fails when the thread has been told already.
        drop(self.queue.send(Order::Close).await);
        let mut open = self.open.clone();
        while open.changed().await.is_ok() {}
    }

    /// Queues work and waits until it has been committed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Desk<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let task = Task {
            work,
            result: None,
            reply,
        };
        let order = Order::Work(Box::new(task));
        self.queue
            .send(order)
            .await
            .map_err(|_| Error::new(ErrorKind::Unavailable, CLOSED))?;
        answer.await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Undetermined,
                "the store's writer stopped while it worked; restart this process, then read \
                 before trying again",
            ))
        })
    }
}

struct WriterThread {
    connection: Connection,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// The definitions that the next transaction expects.
    known: Arc<Definitions>,
    published: Arc<RwLock<Arc<Definitions>>>,
    /// Below the connection, because fields are dropped in order, also by a panic.
    _closed: watch::Sender<()>,
}

/// Why a group did not commit.
enum Lost {
    /// Try each alone: one of them is at fault, or together they were too much.
    OneByOne(Error),
    All(Box<dyn Fn() -> Error>),
}

impl WriterThread {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(first) = orders.blocking_recv() {
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    Order::Work(job) => group.push(job),
                    Order::Close => orders.close(),
                }
                next = if group.len() < GROUP {
                    orders.try_recv().ok()
                } else {
                    None
                };
            }
            if !group.is_empty() {
                self.settle(group);
            }
        }
        // Closed, or the last handle is gone. Closing the connection folds the log into the file.
    }

    fn settle(&mut self, mut group: Vec<Box<dyn Job>>) {
        group.iter_mut().for_each(|job| job.forget());
        let outcome = self.transact(&mut group);
        if outcome.is_err() {
            self.roll_back();
        }
        if outcome.is_err() && group.len() > 1 {
            group.iter_mut().for_each(|job| job.forget());
        }
        match outcome {
            Ok(()) => group.into_iter().for_each(|job| job.answer(None)),
            Err(Lost::All(error)) => {
                group.into_iter().for_each(|job| job.answer(Some(error())));
            }
            Err(Lost::OneByOne(error)) => match <[_; 1]>::try_from(group) {
                Ok([alone]) => alone.answer(Some(error)),
                Err(group) => group.into_iter().for_each(|job| self.settle(vec![job])),
            },
        }
    }

    fn transact(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Lost> {
        self.begin()
            .map_err(|source| self.all(During::Write, source))?;
        self.refresh()?;
        let mut definitions = Arc::clone(&self.known);
        for job in group {
            let mut desk = Desk {
                connection: &self.connection,
                definitions: &mut definitions,
                now: truncate(self.clock.now()),
            };
            job.run(&mut desk).map_err(|failure| match failure {
                Failure::Refused(error) | Failure::Spoilt(error) => Lost::OneByOne(error),
                Failure::Broken(source) => {
                    Lost::OneByOne(translate(&self.path, During::Write, &Arc::new(source)))
                }
            })?;
        }
        match self.execute("COMMIT") {
            Ok(()) => {
                if !Arc::ptr_eq(&definitions, &self.known) {
                    self.publish(definitions);
                }
                Ok(())
            }
            Err(source) if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
                let error = translate(&self.path, During::Commit, &Arc::new(source));
                Err(Lost::OneByOne(error))
            }
            Err(source) => Err(self.all(During::Commit, source)),
        }
    }

    fn begin(&self) -> rusqlite::Result<()> {
        self.execute("BEGIN IMMEDIATE")
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn all(&self, during: During, source: rusqlite::Error) -> Lost {
        let (path, source) = (self.path.clone(), Arc::new(source));
        Lost::All(Box::new(move || translate(&path, during, &source)))
    }

    /// Another process may have defined something since; the write lock is held, so what is read
    /// here stays true until the commit.
    fn refresh(&mut self) -> Result<(), Lost> {
        let broken =
            |source| Lost::OneByOne(translate(&self.path, During::Write, &Arc::new(source)));
        let version = file::definitions_version(&self.connection).map_err(broken)?;
        if version != self.known.version {
            let fresh = file::load_definitions(&self.connection)
                .map_err(broken)?
                .map_err(Lost::OneByOne)?;
            self.publish(Arc::new(fresh));
        }
        Ok(())
    }

    fn publish(&mut self, definitions: Arc<Definitions>) {
        *self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::clone(&definitions);
        self.known = definitions;
    }

    fn roll_back(&self) {
        // After some errors SQLite has rolled back by itself.
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(path = %self.path.display(), %error, "a rollback failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
        time::Duration,
    };

    use freehold_model::SystemClock;

    use super::*;

    const BUSY: Duration = Duration::from_millis(20);

    /// A store's file with a table whose broken rule is noticed only at the commit.
    fn thread(path: &std::path::Path) -> WriterThread {
        let connection = file::open_writer(path, BUSY).expect("a file");
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON;
                 CREATE TABLE one (id INTEGER PRIMARY KEY);
                 CREATE TABLE two (id INTEGER REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED);",
            )
            .expect("tables");
        let definitions: Arc<Definitions> = Arc::default();
        WriterThread {
            connection,
            path: path.to_owned(),
            clock: Arc::new(SystemClock),
            known: Arc::clone(&definitions),
            published: Arc::new(RwLock::new(definitions)),
            _closed: watch::Sender::new(()),
        }
    }

    fn job(
        work: impl FnMut(&mut Desk<'_>) -> Result<(), Failure> + Send + 'static,
    ) -> (Box<dyn Job>, oneshot::Receiver<Result<()>>) {
        let (reply, answer) = oneshot::channel();
        let task = Task {
            work,
            result: None,
            reply,
        };
        (Box::new(task), answer)
    }

    fn insert(desk: &Desk<'_>) -> Result<(), Failure> {
        desk.connection.execute("INSERT INTO two VALUES (7)", [])?;
        Ok(())
    }

    /// Refuses when the neighbour's row is there.
    fn refuse(desk: &Desk<'_>) -> Result<(), Failure> {
        let there = desk
            .connection
            .prepare("SELECT 1 FROM two WHERE id = 7")?
            .exists([])?;
        if there {
            let error = Error::new(ErrorKind::AlreadyExists, "it is there");
            return Err(Failure::Refused(error));
        }
        Ok(())
    }

    fn kind(answer: &mut oneshot::Receiver<Result<()>>) -> Option<ErrorKind> {
        let answer = answer.try_recv().expect("answered");
        answer.err().map(|error| error.kind())
    }

    #[test]
    fn a_refusal_for_what_was_never_committed_is_not_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut thread = thread(&folder.path().join("store.db"));
        let (first, mut inserted) = job(|desk| insert(desk));
        let (second, mut refused) = job(|desk| refuse(desk));
        thread.settle(vec![first, second]);
        let failed = kind(&mut inserted);
        assert!(failed.is_some(), "the commit fails");
        assert_eq!(kind(&mut refused), failed, "nobody knows");
        // Alone it had nothing to do with anybody.
        let (alone, mut answer) = job(|_| {
            Err(Failure::Refused(Error::new(
                ErrorKind::AlreadyExists,
                "it is there",
            )))
        });
        thread.settle(vec![alone]);
        assert_eq!(kind(&mut answer), Some(ErrorKind::AlreadyExists));
    }

    /// Work that locks the file for everybody else when it has been answered.
    struct Locks {
        other: Connection,
        runs: Arc<AtomicUsize>,
    }

    impl Job for Locks {
        fn run(&mut self, desk: &mut Desk<'_>) -> Result<(), Failure> {
            self.runs.fetch_add(1, Ordering::SeqCst);
            desk.connection.execute("INSERT INTO one VALUES (7)", [])?;
            insert(desk)
        }

        fn forget(&mut self) {}

        fn answer(self: Box<Self>, _: Option<Error>) {
            self.other
                .execute_batch("BEGIN IMMEDIATE; DELETE FROM two")
                .expect("a lock");
            KEPT.lock().expect("unpoisoned").push(self.other);
        }
    }

    static KEPT: Mutex<Vec<Connection>> = Mutex::new(Vec::new());

    #[test]
    fn a_refusal_of_a_group_that_was_rolled_back_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let mut thread = thread(&path);
        let runs = Arc::new(AtomicUsize::new(0));
        let first = Box::new(Locks {
            other: Connection::open(&path).expect("another connection"),
            runs: Arc::clone(&runs),
        });
        let (second, mut refused) = job(|desk| refuse(desk));
        let (third, mut spoilt) = job(|_| Err(Error::corrupt("deliberate").into()));
        thread.settle(vec![first, second, third]);
        assert_eq!(runs.load(Ordering::SeqCst), 2, "in the group, then alone");
        assert_eq!(kind(&mut refused), Some(ErrorKind::Throttled));
        assert_eq!(kind(&mut spoilt), Some(ErrorKind::Throttled));
        KEPT.lock().expect("unpoisoned").clear();
    }
}
