//! The PostgreSQL engine against real servers of every installed major version.

mod bad_days;
mod conforms;
mod drift;
mod faults;
mod fence;
mod local;
mod names;
mod provision;
mod session;
mod tls;
mod world;
