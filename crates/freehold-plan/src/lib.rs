//! The pure decisions of Freehold: plain values in, plain values out. No I/O, no async, no clock,
//! no randomness, so that everything here can be tested exactly and simulated by a dry run.
//!
//! A request reads down this crate: [`manifest::parse`] turns the text a user wrote into resources
//! and says, with lines, what is wrong with it; [`apply::merge`] joins each with what is there and
//! who owns which field; [`apply::expand`] makes the accesses a database names inline;
//! [`placement::place`] picks the instance and says why; [`naming`] gives what is made on the server
//! its names; [`apply::prune`] says what to delete. [`schema`] publishes the shape of it all.
//!
//! What is particular to one engine is decided in that engine's `plan.rs`; what is *done* about a
//! decision is done in `freehold-control`.

pub mod apply;
pub mod manifest;
pub mod naming;
pub mod placement;
mod pointer;
pub mod schema;
mod text;
