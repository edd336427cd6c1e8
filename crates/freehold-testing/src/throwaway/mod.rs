//! What every throwaway server needs: a directory, a port, an account, and somebody who ends it
//! when its owner cannot.

mod account;
mod area;
mod supervisor;

pub(crate) use account::Account;
pub(crate) use area::{Area, Home, Port, open_lock};
pub(crate) use supervisor::{Files, Supervisor};
