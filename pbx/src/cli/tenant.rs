//! `pbx tenant`.

use serde_json::{Map, Value, json};

use super::{
    Session,
    args::{Change, ListArgs, Tenant},
    ask::confirm,
    client::{encoded, typed},
    failure::Failure,
    render::{Columns, number, say, say_json},
};
use crate::ops::{Did, How, TenantAnswer, TenantView};

pub(super) async fn run(session: &Session, command: Tenant) -> Result<(), Failure> {
    match command {
        Tenant::List(args) => session.watched(&args.watch, || list(session, &args)).await,
        Tenant::Add { name, domains, realm, policy, change } => {
            let mut request = json!({ "name": name, "domains": domains, "dry_run": change.dry_run });
            if let Some(realm) = realm {
                request["realm"] = realm.into();
            }
            if !policy.is_empty() {
                request["password_policy"] = Value::Object(rules(&policy, Map::new())?);
            }
            answer(session, session.client.post("/api/tenants", &request).await?)
        }
        Tenant::Set { tenant, name, domains, no_domains, policy, default, change } => {
            let found = session.client.get(&path(&tenant)).await?;
            let mut request = json!({ "is_default": default, "dry_run": change.dry_run });
            if let Some(name) = name {
                request["name"] = name.into();
            }
            if no_domains || !domains.is_empty() {
                request["domains"] = domains.into();
            }
            if !policy.is_empty() {
                let now = found["password_policy"].as_object().cloned().unwrap_or_default();
                request["password_policy"] = Value::Object(rules(&policy, now)?);
            }
            answer(session, session.client.post(&by_id(&found), &request).await?)
        }
        Tenant::Remove { tenant, force, yes, change } => remove(session, &tenant, force, yes, change).await,
    }
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let listed = session.list("/api/tenants", args, &[], None, &[]).await?;
    if session.json {
        say_json(&listed.json());
        return Ok(());
    }
    let mut table = Columns::new(&["id", "name", "domains", "realm", "extensions", ""], &[4]);
    for item in listed.items.iter().cloned() {
        let tenant: TenantView = typed(item)?;
        table.row([
            tenant.id.unwrap_or_default(),
            tenant.name,
            tenant.domains.join(", "),
            tenant.realm,
            number(tenant.extensions as u64),
            if tenant.is_default { "default" } else { "" }.to_owned(),
        ]);
    }
    say(&table);
    listed.rest().into_iter().for_each(say);
    Ok(())
}

fn answer(session: &Session, value: Value) -> Result<(), Failure> {
    if session.json {
        say_json(&value);
        return Ok(());
    }
    let TenantAnswer { did, dry_run, notes, item } = typed(value)?;
    let would = if dry_run && did != Did::Unchanged { "would be " } else { "" };
    let what = match did {
        Did::Added => "added",
        Did::Updated => "changed",
        Did::Unchanged => "as it was",
        Did::Removed => "removed",
    };
    say(format!("{} {would}{what}", item.name));
    if did != Did::Removed {
        let domains = if item.domains.is_empty() { "(none)".to_owned() } else { item.domains.join(", ") };
        say(format!("  domains  {domains}"));
        say(format!("  realm    {}", item.realm));
    }
    for note in notes {
        say(format!("  {note}"));
    }
    Ok(())
}

async fn remove(session: &Session, tenant: &str, force: bool, yes: bool, change: Change) -> Result<(), Failure> {
    let found = session.client.get(&path(tenant)).await?;
    if !yes && !change.dry_run {
        let tenant: TenantView = typed(found.clone())?;
        let question = format!("Remove the tenant {}, with {} extensions?", tenant.name, tenant.extensions);
        confirm(&question, "this removes a tenant")?;
    }
    let how = How { force, dry_run: change.dry_run };
    answer(session, session.client.post(&format!("{}/destroy", by_id(&found)), &how).await?)
}

fn path(tenant: &str) -> String {
    format!("/api/tenants/{}", encoded(tenant))
}

fn by_id(tenant: &Value) -> String {
    path(tenant["id"].as_str().unwrap_or_default())
}

/// `min_length=10` over what holds; the daemon knows the names.
fn rules(words: &[String], mut policy: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    for word in words {
        let parsed = word.split_once('=').and_then(|(rule, value)| {
            let value: Value = serde_json::from_str(value.trim()).ok()?;
            (value.is_boolean() || value.is_u64()).then(|| (rule.trim().to_owned(), value))
        });
        let Some((rule, value)) = parsed else {
            return Err(Failure::Usage(format!(
                "--policy {word}: write RULE=VALUE, such as min_length=10 or contains_letters=false"
            )));
        };
        policy.insert(rule, value);
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_go_over_those_that_hold() {
        let now = Map::from_iter([("min_length".to_owned(), json!(8)), ("contains_letters".to_owned(), json!(true))]);
        let new = rules(&["min_length=10".to_owned()], now).unwrap();
        assert_eq!(Value::Object(new), json!({ "min_length": 10, "contains_letters": true }));
        for bad in ["min_length", "min_length=", "min_length=ten", "a=[1]"] {
            assert_eq!(rules(&[bad.to_owned()], Map::new()).unwrap_err().code(), 2, "{bad}");
        }
    }
}
