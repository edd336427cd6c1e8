//! Wake-up hints inside one process. Losing one costs a poll interval, nothing else.

use tokio::sync::{Notify, watch};

#[derive(Debug)]
pub(crate) struct Nudges {
    /// Something may be due.
    pub(crate) due: Notify,
    /// Some operation's record or history has changed.
    changed: watch::Sender<()>,
}

impl Nudges {
    pub(crate) fn new() -> Self {
        Self {
            due: Notify::new(),
            changed: watch::Sender::new(()),
        }
    }

    pub(crate) fn changed(&self) {
        self.changed.send_replace(());
    }

    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
