//! The PostgreSQL engine against real servers of every installed major version.

mod provision;
mod world;
