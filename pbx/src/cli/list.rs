//! Lists: options into query parameters, pages into one list.

use serde_json::{Value, json};

use super::{Session, args::ListArgs, client::query, failure::Failure};
use crate::ops::PAGE;

/// All rows that were asked for, and how many there are.
pub(super) struct Listed {
    pub(super) count: usize,
    pub(super) items: Vec<Value>,
}

impl Listed {
    /// The shape of the API, for `--json`.
    pub(super) fn json(&self) -> Value {
        json!({ "count": self.count, "items": self.items })
    }

    /// What the limit hides.
    pub(super) fn rest(&self) -> Option<String> {
        let hidden = self.count.saturating_sub(self.items.len());
        (hidden > 0).then(|| format!("{hidden} more; --limit {} shows all", self.count))
    }
}

impl Session {
    /// Fetches page by page up to the limit. `own` are conditions of the command itself, `default_sort` is in
    /// the API's words.
    pub(super) async fn list(
        &self,
        path: &str,
        args: &ListArgs,
        own: &[&str],
        default_sort: Option<&str>,
        extra: &[(&str, &str)],
    ) -> Result<Listed, Failure> {
        let conditions: Vec<String> =
            own.iter().map(|own| (*own).to_owned()).chain(args.filter.iter().cloned()).collect();
        let filter = conditions.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" and ");
        let order = args.sort.as_deref().map(order).or(default_sort.map(str::to_owned));
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let mut listed = Listed { count: 0, items: Vec::new() };
        loop {
            let top = (limit - listed.items.len()).min(PAGE).to_string();
            let skip = listed.items.len().to_string();
            let mut pairs = vec![("count", "true"), ("top", top.as_str()), ("skip", skip.as_str())];
            if !filter.is_empty() {
                pairs.push(("filter", &filter));
            }
            if let Some(order) = &order {
                pairs.push(("orderby", order));
            }
            if let Some(search) = &args.search {
                pairs.push(("search", search));
            }
            pairs.extend(extra);
            let mut page = self.client.get(&format!("{path}{}", query(&pairs))).await?;
            listed.count = page["count"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            let Some(items) = page["items"].as_array_mut() else {
                return Err(Failure::Failed("the daemon's answer is no list".to_owned()));
            };
            let came = items.len();
            listed.items.append(items);
            if came == 0 || listed.items.len() >= limit.min(listed.count) {
                return Ok(listed);
            }
        }
    }
}

/// `-packets,cidr` → `packets desc,cidr`
fn order(sort: &str) -> String {
    let keys = sort.split(',').map(|key| match key.trim().strip_prefix('-') {
        Some(key) => format!("{key} desc"),
        None => key.trim().to_owned(),
    });
    keys.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minus_turns_the_order_round() {
        assert_eq!(order("-packets"), "packets desc");
        assert_eq!(order("kind,-since"), "kind,since desc");
        assert_eq!(order("cidr desc"), "cidr desc");
    }
}
