//! From an operation's error to the answer on the wire: one table, one shape.

use axum::{
    Json,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::ops::{Kind, OpError};

/// `{"errors":[{"code","message","detail"}]}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// At least one.
    pub errors: Vec<OpError>,
}

/// An error that is on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    error: OpError,
}

impl From<OpError> for ApiError {
    fn from(error: OpError) -> Self {
        let status = match error.kind() {
            Kind::Usage => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::Refused => StatusCode::CONFLICT,
            Kind::Full => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, error }
    }
}

impl ApiError {
    /// Whoever asks has not said who they are.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, error: OpError::denied(message).with_code("UNAUTHORIZED") }
    }

    /// A request that cannot be read, with the status that says why.
    pub(super) fn unreadable(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, error: OpError::usage(message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(code = self.error.code, "{}", self.error.message);
        }
        (self.status, Json(ErrorBody { errors: vec![self.error] })).into_response()
    }
}

pub(super) async fn no_such_path(uri: Uri) -> ApiError {
    OpError::not_found(format!("there is nothing at {:.100}", uri.path())).into()
}

pub(super) async fn no_such_verb(method: Method, uri: Uri) -> ApiError {
    ApiError::unreadable(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{:.100} does not take {method:.20}: GET reads, POST changes", uri.path()),
    )
}
