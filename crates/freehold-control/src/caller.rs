//! Who is calling.

use crate::authorize::Principal;

/// An authenticated caller. Made by [`crate::Control::authenticate`] only.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) principal: Principal,
    pub(crate) request_id: String,
    /// Not secret: says in the audit log how the caller proved who it is.
    pub(crate) token_id: String,
}

impl Caller {
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    pub fn subject(&self) -> &str {
        self.principal.subject.as_str()
    }
}
