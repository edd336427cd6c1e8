//! The SQLite engine on real directories.

mod bad_days;
mod conforms;
mod disk;
mod fence;
mod kills;
mod names;
mod processes;
mod scripts;
mod session;
mod world;
