//! The Redis engine against real servers.

mod bad_days;
mod conforms;
mod faults;
mod fence;
mod isolation;
mod names;
mod tls;
mod world;
