//! One file per verb: its arguments, and what it does.

pub(crate) mod admin;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod binding;
pub(crate) mod completion;
pub(crate) mod connect;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod lint;
pub(crate) mod login;
pub(crate) mod manifests;
pub(crate) mod migrate;
pub(crate) mod operation;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod undelete;
