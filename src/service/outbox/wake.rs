//! Wake-up of the senders of this process, and the traces of its unsent messages.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::message::MessageId;
use crate::telemetry::tracing::TraceContext;

/// Maximum number of messages with a trace that this process remembers until they are sent.
const TRACED: usize = 1000;

/// Wakes the senders of this process. Cheap to clone.
#[derive(Clone)]
pub struct Wake {
    pub(super) notify: Arc<Notify>,
    /// Traces of messages that this process has written and not yet sent. Other processes do not know them.
    traced: Arc<Cache<Uuid, TraceContext>>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            notify: Arc::default(),
            traced: Arc::new(Cache::new(TRACED)),
        }
    }
}

impl Wake {
    /// Reports a new message of this process.
    pub fn send(&self, message: MessageId) {
        let here = TraceContext::current();
        if here.is_traced() {
            self.traced.insert(message.0, here);
        }
        self.notify.notify_one();
    }

    /// Returns and forgets the trace of a message. Without one, returns an empty trace.
    pub(super) fn trace_of(&self, message: MessageId) -> TraceContext {
        self.traced
            .remove(&message.0)
            .map(|(_, trace)| trace)
            .unwrap_or_default()
    }
}
