//! What happened: stored, and told to whoever follows.

use std::sync::Arc;

use pbx_core::time::Timestamp;
use tokio::sync::broadcast;

use super::{
    ListOptions, OpError, Operations, Page,
    query::{Kind, Query, Row, StoredRow, Value},
};
use crate::store::{Comparison, Condition, EVENTS_KEPT, Event, EventField, EventKind, NewEvent, Operand};

impl Operations {
    /// Follows the events from now on. A follower that falls behind is told how many it lost.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner.followers.subscribe()
    }

    /// Stores events and tells them. The filter's state does not depend on them: when the store cannot take
    /// them they are told without being kept, and the log says so.
    pub async fn record(&self, events: Vec<NewEvent>) {
        if events.is_empty() {
            return;
        }
        match self.store().add_events(&events).await {
            Ok(stored) => self.publish(stored),
            Err(error) => {
                tracing::warn!(%error, lost = events.len(), "events are not kept");
                let unkept = |event| {
                    let NewEvent { at, kind, prefix, interface, message } = event;
                    Event { id: 0, at, kind, prefix, interface, message }
                };
                self.publish(events.into_iter().map(unkept).collect());
            }
        }
    }

    /// The newest first.
    pub async fn events(&self, options: &ListOptions, since: Option<Timestamp>) -> Result<Page<Event>, OpError> {
        let query = Query::parse::<Event>(options).map_err(OpError::usage)?;
        // What a range has in common with another one is nothing that the store can say.
        if query.searches_an_address() {
            let rows = self.store().events(since.unwrap_or(Timestamp::MIN), EVENTS_KEPT as u32).await?;
            return Ok(query.page(rows.into_iter()));
        }
        let mut selection = query.selection::<Event>();
        if let Some(since) = since {
            let later = Condition::Compare(EventField::At, Comparison::MoreOrEqual, Operand::Number(since.as_millis()));
            selection.condition = Condition::All(vec![selection.condition, later]);
        }
        let items = self.store().events_page(&selection).await?;
        let count = match query.counts() {
            true => Some(usize::try_from(self.store().count_events(&selection.condition).await?).unwrap_or(usize::MAX)),
            false => None,
        };
        Ok(Page { count, items })
    }

    pub(super) async fn tell(&self, kind: EventKind, message: String) {
        self.record(vec![NewEvent { at: self.now(), kind, prefix: None, interface: None, message }]).await;
    }

    pub(super) fn publish(&self, events: Vec<Event>) {
        for event in events {
            // An error only says that nobody follows.
            let _ = self.inner.followers.send(Arc::new(event));
        }
    }
}

impl Row for Event {
    const FIELDS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("at", Kind::Time),
        ("kind", Kind::Text),
        ("prefix", Kind::Address),
        ("interface", Kind::Text),
        ("message", Kind::Text),
    ];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Number(self.id),
            1 => Value::Time(self.at),
            2 => Value::Text(self.kind.as_str().into()),
            3 => self.prefix.map_or(Value::Null, Value::Address),
            4 => self.interface.as_deref().map_or(Value::Null, |name| Value::Text(name.into())),
            _ => Value::Text(self.message.as_str().into()),
        }
    }
}

impl StoredRow for Event {
    type Field = EventField;
    const STORED: &'static [EventField] = &[
        EventField::Id,
        EventField::At,
        EventField::Kind,
        EventField::Prefix,
        EventField::Interface,
        EventField::Message,
    ];
}
