//! `/web`: the web server itself and its certificate.

use axum::{Json, extract::State};

use super::{Api, ApiError, WebStatus, extract::OptionalBody, identity::Caller};
use crate::ops::{CertificateAnswer, CertificateView, OpError, SetCertificate};

pub(super) async fn status(State(api): State<Api>) -> Json<WebStatus> {
    Json(api.web.status())
}

pub(super) async fn certificate(State(api): State<Api>) -> Result<Json<CertificateView>, ApiError> {
    let none = || OpError::not_found("there is no web server, so it has no certificate");
    Ok(Json(api.operations.web_certificate().ok_or_else(none)?))
}

pub(super) async fn set_certificate(
    State(api): State<Api>,
    Caller(context): Caller,
    OptionalBody(request): OptionalBody<SetCertificate>,
) -> Result<Json<CertificateAnswer>, ApiError> {
    Ok(Json(api.operations.set_web_certificate(&context, request).await?))
}
