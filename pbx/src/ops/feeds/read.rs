//! The text of a feed, from a file or a web server, and what it means. Changes nothing.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
};

use pbx_core::feed::{self, List};
use tokio::time::timeout;

use super::super::Operations;
use crate::{
    store::StoredFeed,
    web::{self, Limits},
};

impl Operations {
    /// Reads a feed. The error follows the name of the feed in a sentence.
    pub(super) async fn read_feed(&self, feed: &StoredFeed) -> Result<List, String> {
        let limits = self.inner.environment.feed_limits;
        let bytes = if feed.source.starts_with('/') {
            file(feed.source.clone(), limits).await?
        } else {
            let address = web::address(&feed.source).map_err(|error| error.to_string())?;
            let read = self.inner.environment.web.get(&address, limits).await;
            read.map_err(|error| format!("cannot be read: {error}"))?
        };
        let most = usize::try_from(feed.most).unwrap_or(usize::MAX);
        // Megabytes of text are a noticeable piece of work: off the async threads.
        let parsed = tokio::task::spawn_blocking(move || feed::parse(&bytes, most)).await;
        parsed.map_err(|error| format!("cannot be read: {error}"))?.map_err(|error| error.to_string())
    }
}

async fn file(path: String, limits: Limits) -> Result<Vec<u8>, String> {
    let reading = tokio::task::spawn_blocking(move || {
        // Does not wait for whoever writes into a pipe; a pipe is refused right after.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no ordinary file"));
        }
        let mut bytes = Vec::new();
        file.take(limits.bytes as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let Ok(read) = timeout(limits.whole, reading).await else {
        return Err(format!("cannot be read: the disk did not answer within {} s", limits.whole.as_secs_f32()));
    };
    let bytes = read.map_err(|error| format!("cannot be read: {error}"))?;
    let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > limits.bytes {
        return Err(format!("has more than {} bytes", limits.bytes));
    }
    Ok(bytes)
}
