//! Extractors that fail in the shape of every other error.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use super::ApiError;

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// The query part of the address.
pub(super) struct Query<T>(pub(super) T);

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

/// A JSON body that may be left out.
pub(super) struct OptionalBody<T>(pub(super) T);

/// A body as it is.
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| ApiError::unreadable(StatusCode::BAD_REQUEST, rejection.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        is_json(&request)?;
        let Raw(bytes) = Raw::from_request(request, state).await?;
        json(&bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        is_json(&request)?;
        let Raw(bytes) = Raw::from_request(request, state).await?;
        if bytes.trim_ascii().is_empty() { Ok(Self(T::default())) } else { json(&bytes).map(Self) }
    }
}

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state));
        match read.await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) => Err(ApiError::unreadable(rejection.status(), rejection.body_text())),
            Err(_) => Err(ApiError::unreadable(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not come within {} seconds", BODY_TIMEOUT.as_secs()),
            )),
        }
    }
}

/// Whether a request says of its body that it is JSON; one that says nothing is taken at its word.
fn is_json(request: &Request) -> Result<(), ApiError> {
    let Some(kind) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::unreadable(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the body is {kind:.60?}: send it as application/json"),
    ))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::unreadable(StatusCode::BAD_REQUEST, format!("the body is not as expected: {error}")))
}
