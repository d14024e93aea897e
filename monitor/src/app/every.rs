//! What is due every so often.

use std::time::{Duration, Instant};

/// Something that is due every so often.
pub struct Every {
    period: Duration,
    last: Option<Instant>,
}

impl Every {
    /// Due at once, then every `period`.
    pub fn new(period: Duration) -> Self {
        Self { period, last: None }
    }

    /// Whether it is due at `now`; takes note that it is done then.
    pub fn due(&mut self, now: Instant) -> bool {
        self.due_after(now, self.period)
    }

    /// The same, with another time in between.
    pub fn due_after(&mut self, now: Instant, period: Duration) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= period);
        if due {
            self.last = Some(now);
        }
        due
    }
}
