//! Who changed what: listed, exported, its chain followed.

use super::{
    ListOptions, OpError, Operations, Page,
    csv::cell,
    query::{Kind, Query, Row, StoredRow, Value},
};
use crate::store::{AuditField, AuditRow, Condition, Verified};

/// Rows that an export holds in memory at once.
const AT_ONCE: u32 = 500;

/// The audit on its way out as CSV, page by page, newest first.
pub struct ExportAudit {
    operations: Operations,
    condition: Condition<AuditField>,
    /// The number of the last row that is out.
    last: Option<i64>,
    begun: bool,
    over: bool,
}

impl Operations {
    /// A page, the newest first.
    pub async fn audit_log(&self, options: &ListOptions) -> Result<Page<AuditRow>, OpError> {
        let query = Query::parse::<AuditRow>(options).map_err(OpError::usage)?;
        let selection = query.selection::<AuditRow>();
        let items = self.store().audit_page(&selection).await?;
        let count = match query.counts() {
            true => Some(usize::try_from(self.store().count_audit(&selection.condition).await?).unwrap_or(usize::MAX)),
            false => None,
        };
        Ok(Page { count, items })
    }

    /// All rows that a list without pages would have.
    pub fn export_audit(&self, options: &ListOptions) -> Result<ExportAudit, OpError> {
        let condition = Query::parse::<AuditRow>(options).map_err(OpError::usage)?.condition::<AuditRow>();
        Ok(ExportAudit { operations: self.clone(), condition, last: None, begun: false, over: false })
    }

    /// Whether every row is what it was when it was written.
    pub async fn verify_audit(&self) -> Result<Verified, OpError> {
        Ok(self.store().verify_audit().await?)
    }
}

impl ExportAudit {
    /// The next part; none: it is over.
    pub async fn next(&mut self) -> Result<Option<String>, OpError> {
        if self.over {
            return Ok(None);
        }
        let rows = self.operations.store().audit_before(&self.condition, self.last, AT_ONCE).await?;
        self.over = rows.len() < AT_ONCE as usize;
        self.last = rows.last().map(|row| row.id);
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            text.push_str("id,at,actor,origin,what,object,before,after\n");
        }
        for AuditRow { id, at, actor, origin, what, object, before, after } in rows {
            let texts = [actor, origin, what, object, before.unwrap_or_default(), after.unwrap_or_default()];
            let cells = texts.map(|text| cell(&text));
            text.push_str(&format!("{id},{at},{}\n", cells.join(",")));
        }
        Ok(Some(text))
    }
}

impl Row for AuditRow {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("at", Kind::Time),
        ("actor", Kind::Text),
        ("origin", Kind::Text),
        ("what", Kind::Text),
        ("object", Kind::Text),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Number(self.id),
            1 => Value::Time(self.at),
            2 => Value::Text(self.actor.as_str().into()),
            3 => Value::Text(self.origin.as_str().into()),
            4 => Value::Text(self.what.as_str().into()),
            _ => Value::Text(self.object.as_str().into()),
        }
    }
}

impl StoredRow for AuditRow {
    type Field = AuditField;
    const STORED: &'static [AuditField] =
        &[AuditField::Id, AuditField::At, AuditField::Actor, AuditField::Origin, AuditField::What, AuditField::Object];
}
