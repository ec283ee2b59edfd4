//! Operations on a real store with a filter in memory.

mod blocks;
mod calls;
mod cdrs;
mod control;
mod evidence;
mod extensions;
mod feeds;
mod filter;
mod forwarding;
mod import;
mod lockout;
mod notify;
mod pending;
mod registrations;
mod rehearsal;
mod retention;
mod rules;
mod settings;
mod switches;
mod tenants;
mod trace;
mod transports;

use pbx_core::rule::Action;

use super::{AddRule, Context, How, Role, fake::Bench};

const DRY: How = How { force: false, dry_run: true };
const FORCED: How = How { force: true, dry_run: false };

fn admin() -> Context {
    Context { actor: "root".into(), role: Role::Admin, origin: "socket" }
}

fn viewer() -> Context {
    Context { actor: "eve".into(), role: Role::View, origin: "socket" }
}

fn request(cidr: &str, target: Action) -> AddRule {
    AddRule {
        cidr: cidr.into(),
        mask: None,
        target,
        expire_at: None,
        lasting: None,
        description: None,
        force: false,
        dry_run: false,
    }
}

impl Bench {
    async fn block(&self, cidr: &str) {
        self.operations.add_rule(&admin(), request(cidr, Action::Block)).await.unwrap();
    }

    async fn allow(&self, cidr: &str) {
        self.operations.add_rule(&admin(), request(cidr, Action::Allow)).await.unwrap();
    }

    /// What the store has, as "action prefix".
    async fn stored(&self) -> Vec<String> {
        self.store().rules().await.unwrap().iter().map(|rule| format!("{} {}", rule.action, rule.prefix)).collect()
    }
}
