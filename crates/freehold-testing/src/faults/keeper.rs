//! The gate's keeper: hears every point, and makes one fault of one of them.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender},
    },
};

use freehold_model::{GateKeeper, InjectedFault, Point};
use tokio::sync::Notify;

use super::{Fault, PointId, case::Case};

/// Told to the director of a case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Struck {
    /// The worker stands still until it is woken.
    Asleep,
    /// The fault has struck and needs nobody's help.
    Done,
}

#[derive(Debug)]
pub(super) struct Keeper {
    case: Option<Case>,
    heard: Mutex<Heard>,
    /// Ends the worker.
    pub(super) kill: Notify,
    struck: Option<Mutex<Sender<Struck>>>,
    wake: Option<Mutex<Receiver<()>>>,
}

#[derive(Debug, Default)]
struct Heard {
    points: Vec<PointId>,
    counts: HashMap<Point, u32>,
}

impl Keeper {
    pub(super) fn recording() -> Arc<Self> {
        Arc::new(Self {
            case: None,
            heard: Mutex::default(),
            kill: Notify::new(),
            struck: None,
            wake: None,
        })
    }

    pub(super) fn striking(case: Case, struck: Sender<Struck>, wake: Receiver<()>) -> Arc<Self> {
        Arc::new(Self {
            case: Some(case),
            heard: Mutex::default(),
            kill: Notify::new(),
            struck: Some(Mutex::new(struck)),
            wake: Some(Mutex::new(wake)),
        })
    }

    pub(super) fn seen(&self) -> Vec<PointId> {
        self.lock().points.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, point: &Point) -> PointId {
        let mut heard = self.lock();
        let count = heard.counts.entry(point.clone()).or_default();
        let id = PointId {
            what: point.what.clone(),
            when: point.when,
            occurrence: *count,
        };
        *count += 1;
        heard.points.push(id.clone());
        id
    }

    fn tell(&self, what: Struck) {
        if let Some(struck) = &self.struck {
            // A director that has given up on the case does not listen any more.
            let _ = struck
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .send(what);
        }
    }

    /// Stops the whole thread, and with it the worker's runtime: its timers, its lease renewals.
    fn sleep(&self) {
        if let Some(wake) = &self.wake {
            let wake = wake.lock().unwrap_or_else(PoisonError::into_inner);
            // Woken by a word or by the end of the case.
            let _ = wake.recv();
        }
    }
}

impl GateKeeper for Keeper {
    fn reach(
        &self,
        point: Point,
    ) -> Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        Box::pin(async move {
            let id = self.hear(&point);
            // Each point id is passed once in a worker's life, so this strikes at most once.
            let Some(case) = self.case.as_ref().filter(|case| case.point == id) else {
                return Ok(());
            };
            match case.fault {
                Fault::FailBefore | Fault::FailAfter | Fault::RunTwice => {
                    self.tell(Struck::Done);
                    let Point { what, when } = point;
                    Err(InjectedFault { what, when })
                }
                Fault::Kill => {
                    self.tell(Struck::Done);
                    self.kill.notify_one();
                    std::future::pending().await
                }
                Fault::Sleep => {
                    self.tell(Struck::Asleep);
                    self.sleep();
                    Ok(())
                }
            }
        })
    }
}
