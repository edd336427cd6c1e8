//! The MariaDB engine against real servers.

mod bad_days;
mod conforms;
mod definer;
mod drift;
mod faults;
mod fence;
mod names;
mod provision;
mod session;
mod world;
