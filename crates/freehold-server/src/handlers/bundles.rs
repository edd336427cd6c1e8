use aide::OperationInput;
use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use freehold_api::BundleAccepted;
use freehold_model::BundleDigest;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Answer;
use crate::{
    App,
    failure::Refusal,
    request::{Authenticated, InBytes, InPath},
};

pub(crate) const BUNDLE_BYTES_MAX: usize = 256 << 20;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct BundlePath {
    #[schemars(with = "String")]
    digest: BundleDigest,
}

/// A place for a large body. Taken after the caller is known and before the body is read.
pub(crate) struct UploadPlace(
    #[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit,
);

impl FromRequestParts<App> for UploadPlace {
    type Rejection = Refusal;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, Refusal> {
        match app.uploads.clone().try_acquire_owned() {
            Ok(permit) => Ok(Self(permit)),
            Err(_) => Err(Refusal::throttled("uploads")),
        }
    }
}

impl OperationInput for UploadPlace {}

pub(crate) async fn put(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    InPath(path): InPath<BundlePath>,
    _place: UploadPlace,
    InBytes(bytes): InBytes,
) -> Answer<BundleAccepted> {
    let accepted = app.control.bundle_put(&caller, &path.digest, bytes.into());
    Ok(Json(accepted.await?))
}
