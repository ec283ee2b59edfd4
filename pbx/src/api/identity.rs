//! Who is at the other end of the socket, as the kernel says (SO_PEERCRED), and what that one may do.

use std::{
    ffi::CString,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{Method, request::Parts},
    middleware::Next,
    response::Response,
};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::{ApiError, https::Remote};
use crate::ops::{Context, OpError, Role};

/// Its members change.
pub const ADMIN_GROUP: &str = "pbx-admin";
/// Its members read.
pub const VIEW_GROUP: &str = "pbx-view";

/// Says what a user may do: uid and gid of the peer's process. Looked up once for each connection.
pub type Authority = Arc<dyn Fn(Uid, Gid) -> Option<Role> + Send + Sync>;

/// The process at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    uid: Uid,
    gid: Gid,
    found: Arc<OnceLock<Found>>,
}

#[derive(Clone, Debug)]
struct Found {
    name: String,
    role: Option<Role>,
}

/// Who asks, for handlers.
pub(super) struct Caller(pub(super) Context);

impl Peer {
    pub(super) fn new(uid: u32, gid: u32) -> Self {
        Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), found: Arc::default() }
    }
}

/// root, the daemon's own user and `pbx-admin` change; `pbx-view` reads; nobody else does anything.
pub fn system_authority() -> Authority {
    Arc::new(|uid, gid| {
        if uid.is_root() || uid == Uid::effective() {
            return Some(Role::Admin);
        }
        let groups = groups(uid, gid);
        let member =
            |name: &str| Group::from_name(name).ok().flatten().is_some_and(|group| groups.contains(&group.gid));
        match () {
            () if member(ADMIN_GROUP) => Some(Role::Admin),
            () if member(VIEW_GROUP) => Some(Role::View),
            () => None,
        }
    })
}

/// The process's own group and those of its user in the system's database.
fn groups(uid: Uid, gid: Gid) -> Vec<Gid> {
    let mut groups = vec![gid];
    if let Ok(Some(user)) = User::from_uid(uid)
        && let Ok(name) = CString::new(user.name)
    {
        groups.extend(getgrouplist(&name, user.gid).unwrap_or_default());
    }
    groups
}

/// Lets a request in with its [`Context`], or answers 403.
pub(super) async fn admit(
    State(authority): State<Authority>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        if request.extensions().get::<Remote>().is_some() {
            return Err(ApiError::unauthorized("sign in first: POST /api/auth/sign_in"));
        }
        return Err(OpError::denied("the connection does not say who it is").into());
    };
    // The system's user database may be on the network: off the async threads, once for each connection.
    let found = tokio::task::spawn_blocking(move || {
        peer.found
            .get_or_init(|| {
                let name = User::from_uid(peer.uid).ok().flatten().map(|user| user.name);
                Found { name: name.unwrap_or_else(|| format!("uid {}", peer.uid)), role: authority(peer.uid, peer.gid) }
            })
            .clone()
    })
    .await
    .map_err(|error| OpError::internal(format!("cannot look up who asks: {error}")))?;
    let Found { name, role } = found;
    let needed =
        if request.method() == Method::GET || request.method() == Method::HEAD { Role::View } else { Role::Admin };
    match role {
        Some(role) if role >= needed => {
            request.extensions_mut().insert(Context { actor: name, role, origin: "socket" });
            Ok(next.run(request).await)
        }
        Some(_) => Err(OpError::denied(format!(
            "{name} may look and not change: ask root, or join the group {ADMIN_GROUP} (`usermod -aG {ADMIN_GROUP} {name}`)"
        ))
        .into()),
        None => Err(OpError::denied(format!(
            "{name} may not use this: ask root, or join {VIEW_GROUP} to look or {ADMIN_GROUP} to change (`usermod -aG {VIEW_GROUP} {name}`)"
        ))
        .into()),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<Context>() {
            Some(context) => Ok(Self(context.clone())),
            None => Err(OpError::denied("nobody knows who asks").into()),
        }
    }
}
