//! `/transports`.

use axum::{
    Json,
    extract::{Path, State},
};

use super::{
    Api, ApiError,
    extract::{Body, OptionalBody, Query},
    identity::Caller,
};
use crate::ops::{
    AddTransport, CertificateView, How, ListOptions, Page, SetCertificate, TransportAnswer, TransportStatusView,
    TransportView, UpdateTransport,
};

pub(super) async fn list(
    State(api): State<Api>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Page<TransportView>>, ApiError> {
    Ok(Json(api.operations.transports(&options)?))
}

pub(super) async fn create(
    State(api): State<Api>,
    Caller(context): Caller,
    Body(request): Body<AddTransport>,
) -> Result<Json<TransportAnswer>, ApiError> {
    Ok(Json(api.operations.add_transport(&context, request).await?))
}

pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<TransportView>, ApiError> {
    Ok(Json(api.operations.transport(&id)?))
}

pub(super) async fn update(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    Body(update): Body<UpdateTransport>,
) -> Result<Json<TransportAnswer>, ApiError> {
    Ok(Json(api.operations.update_transport(&context, &id, update).await?))
}

pub(super) async fn destroy(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(how): OptionalBody<How>,
) -> Result<Json<TransportAnswer>, ApiError> {
    Ok(Json(api.operations.remove_transport(&context, &id, how).await?))
}

pub(super) async fn status(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<TransportStatusView>, ApiError> {
    Ok(Json(api.operations.transport_status(&id).await?))
}

pub(super) async fn certificate(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<CertificateView>, ApiError> {
    Ok(Json(api.operations.certificate(&id)?))
}

pub(super) async fn set_certificate(
    State(api): State<Api>,
    Caller(context): Caller,
    Path(id): Path<String>,
    OptionalBody(request): OptionalBody<SetCertificate>,
) -> Result<Json<TransportAnswer>, ApiError> {
    Ok(Json(api.operations.set_certificate(&context, &id, request).await?))
}
