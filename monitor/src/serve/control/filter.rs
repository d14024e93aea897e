//! Which finished requests `weir tail` wants. Travels as a query string.

use std::str::FromStr;

use crate::view::{Direction, RequestRecord};

/// A status to look for: a code or a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// `404`
    Code(u16),
    /// `4xx`
    Class(u16),
    /// `none`: not answered.
    None,
}

impl FromStr for StatusFilter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a status; write 404, 4xx or none");
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(class) = text.strip_suffix("xx") {
            return class
                .parse()
                .ok()
                .filter(|class| (1..=5).contains(class))
                .map(Self::Class)
                .ok_or_else(bad);
        }
        text.parse().ok().filter(|code| (100..=999).contains(code)).map(Self::Code).ok_or_else(bad)
    }
}

/// All parts that are set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Identity, exactly, or one of the other credentials.
    pub identity: Option<String>,
    /// Route template exactly, or a prefix when it ends in `*`.
    pub route: Option<String>,
    /// Host, case-insensitively.
    pub host: Option<String>,
    /// Method, case-insensitively.
    pub method: Option<String>,
    /// Status.
    pub status: Option<StatusFilter>,
    /// Direction.
    pub direction: Option<Direction>,
    /// Process.
    pub pid: Option<u32>,
    /// Workload, exactly.
    pub workload: Option<String>,
}

impl Filter {
    /// Reads a query string.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "identity" => filter.identity = Some(value.into_owned()),
                "route" => filter.route = Some(value.into_owned()),
                "host" => filter.host = Some(value.into_owned()),
                "method" => filter.method = Some(value.into_owned()),
                "workload" => filter.workload = Some(value.into_owned()),
                "status" => filter.status = Some(value.parse()?),
                "pid" => {
                    filter.pid = Some(value.parse().map_err(|_| format!("{value:?} is not a process id"))?);
                }
                "direction" => {
                    filter.direction = Some(match &*value {
                        "inbound" => Direction::Inbound,
                        "outbound" => Direction::Outbound,
                        _ => return Err(format!("{value:?} is not a direction; write inbound or outbound")),
                    });
                }
                _ => return Err(format!("unknown filter {key:?}")),
            }
        }
        Ok(filter)
    }

    /// Whether `record` is wanted.
    pub fn wants(&self, record: &RequestRecord) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let like = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|w| w.eq_ignore_ascii_case(found))
        };
        let identity = self
            .identity
            .as_ref()
            .is_none_or(|wanted| *wanted == record.identity || record.also.iter().any(|also| also == wanted));
        let route = self.route.as_ref().is_none_or(|wanted| match wanted.strip_suffix('*') {
            Some(prefix) => record.route.starts_with(prefix),
            None => *wanted == record.route,
        });
        let status = self.status.is_none_or(|wanted| match wanted {
            StatusFilter::Code(code) => record.status == code,
            StatusFilter::Class(class) => record.status / 100 == class,
            StatusFilter::None => record.status == 0,
        });
        identity
            && route
            && status
            && like(&self.host, &record.host)
            && like(&self.method, &record.method)
            && is(&self.workload, &record.workload)
            && self.direction.is_none_or(|wanted| wanted == record.direction)
            && self.pid.is_none_or(|wanted| wanted == record.pid)
    }
}
