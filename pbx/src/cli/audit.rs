//! `pbx audit`: who changed what, and whether that is still what was written.

use super::{
    Session,
    args::{Audit, ListArgs},
    client::{query, typed},
    download::save,
    failure::Failure,
    render::{Columns, number, say, say_json},
};
use crate::store::{AuditRow, Verified};

pub(super) async fn run(session: &Session, command: Audit) -> Result<(), Failure> {
    match command {
        Audit::List(args) => session.watched(&args.watch, || list(session, &args)).await,
        Audit::Verify => verify(session).await,
        Audit::Export { filter, file } => {
            let filter = filter.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" and ");
            let pairs = [("filter", filter.as_str())];
            let pairs = if filter.is_empty() { &[][..] } else { &pairs[..] };
            save(session, &format!("/api/audit_logs/export{}", query(pairs)), &file).await
        }
    }
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/audit_logs", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["id", "at", "who", "over", "what", "object"], &[0]);
    // The newest last, as in a log.
    for item in listed.items.iter().rev().cloned() {
        let AuditRow { id, at, actor, origin, what, object, .. } = typed(item)?;
        table.row([id.to_string(), at.to_string(), actor, origin, what, object]);
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

async fn verify(session: &Session) -> Result<(), Failure> {
    let value = session.client.get("/api/audit_logs/verify").await?;
    let Verified { rows, pruned, head, broken } = typed(value.clone())?;
    if session.json {
        say_json(&value);
    } else {
        let older =
            if pruned > 0 { format!(", and {} older ones were removed by age", number(pruned)) } else { String::new() };
        say(format!("{} rows are what they were when they were written{older}", number(rows)));
        say(format!("last hash  {head}"));
        say("noted elsewhere, it proves later that nothing up to here was changed");
    }
    match broken {
        None => Ok(()),
        Some(broken) => Err(Failure::Failed(format!("the audit was tampered with: {broken}"))),
    }
}
