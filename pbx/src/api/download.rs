//! A file that is made while it is read.

use std::future::Future;

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ApiError;
use crate::ops::{BackupFile, ExportAudit, ExportCdrs, OpError};

/// Pieces on their way to whoever reads.
const IN_FLIGHT: usize = 2;

/// What makes a file piece by piece.
pub(super) trait Pieces: Send + 'static {
    /// The next piece; none: that was all.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, OpError>> + Send;
}

impl Pieces for ExportCdrs {
    async fn next(&mut self) -> Result<Option<Bytes>, OpError> {
        Ok(Self::next(self).await?.map(Bytes::from))
    }
}

impl Pieces for ExportAudit {
    async fn next(&mut self) -> Result<Option<Bytes>, OpError> {
        Ok(Self::next(self).await?.map(Bytes::from))
    }
}

impl Pieces for BackupFile {
    async fn next(&mut self) -> Result<Option<Bytes>, OpError> {
        Ok(Self::next(self).await?.map(Bytes::from))
    }
}

/// Piece by piece, as fast as it is read. What goes wrong in the middle breaks off without an end.
pub(super) async fn download(mut pieces: impl Pieces, kind: &str, name: &str) -> Result<Response, ApiError> {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, OpError>>(IN_FLIGHT);
    // An error that is there at once is an answer like every other.
    let mut next = pieces.next().await?;
    tokio::spawn(async move {
        while let Some(piece) = next {
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
            next = match pieces.next().await {
                Ok(next) => next,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
        }
    });
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}
