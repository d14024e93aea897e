//! Columns: one description per kind of row serves tables, CSV, sorting, filtering and the terminal interface.

use std::cmp::Ordering;

use serde::Serialize;

/// A value of a column, with enough meaning to print and to sort it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number of things.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// Seconds, if there are any.
    Seconds(Option<f64>),
    /// Per second, if that is known.
    Rate(Option<f64>),
    /// A share, from 0 to 1, if there is one.
    Share(Option<f64>),
    /// Yes or no.
    Flag(bool),
}

impl Value {
    /// For people: short, with units.
    pub fn human(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "-".into(),
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Bytes(bytes) => human_bytes(*bytes),
            Self::Seconds(None) | Self::Rate(None) | Self::Share(None) => "-".into(),
            Self::Seconds(Some(seconds)) => human_seconds(*seconds),
            Self::Rate(Some(rate)) if *rate == 0.0 => "0".into(),
            Self::Rate(Some(rate)) if *rate < 10.0 => format!("{rate:.2}"),
            Self::Rate(Some(rate)) if *rate < 100.0 => format!("{rate:.1}"),
            Self::Rate(Some(rate)) => format!("{rate:.0}"),
            Self::Share(Some(share)) => format!("{:.0}%", share * 100.0),
            Self::Flag(flag) => (if *flag { "yes" } else { "no" }).into(),
        }
    }

    /// For programs: exact, base units.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(number) | Self::Bytes(number) => number.to_string(),
            Self::Seconds(number) | Self::Rate(number) | Self::Share(number) => {
                number.map(|number| number.to_string()).unwrap_or_default()
            }
            Self::Flag(flag) => flag.to_string(),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Text(_) => None,
            Self::Count(number) | Self::Bytes(number) => Some(*number as f64),
            // what is not known comes last
            Self::Seconds(number) | Self::Rate(number) | Self::Share(number) => Some(number.unwrap_or(-1.0)),
            Self::Flag(flag) => Some(f64::from(u8::from(*flag))),
        }
    }

    /// Text ascends, numbers descend: what one wants to see first comes first.
    fn compare(&self, other: &Self) -> Ordering {
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            _ => self.plain().cmp(&other.plain()),
        }
    }
}

/// Bytes with a binary unit.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1}TiB")
}

fn human_seconds(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{:.0}us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1}ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.2}s")
    } else if seconds < 7_200.0 {
        format!("{:.0}min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.0}h", seconds / 3_600.0)
    } else {
        format!("{:.0}d", seconds / 86_400.0)
    }
}

/// One column of rows of type `R`.
pub struct Column<R> {
    /// Name in CSV and for `--sort`.
    pub name: &'static str,
    /// Only in wide tables and CSV.
    pub wide: bool,
    /// Aligned to the right.
    pub right: bool,
    /// What a row has in it.
    pub value: fn(&R) -> Value,
}

impl<R> Column<R> {
    /// Heading in a table.
    pub fn title(&self) -> String {
        self.name.to_uppercase().replace('_', " ")
    }
}

/// A kind of row.
pub trait Row: Serialize + Sized + 'static {
    /// Its columns, in order.
    const COLUMNS: &'static [Column<Self>];
    /// Column by which rows are sorted unless told otherwise.
    const SORT: &'static str;
}

/// Sorts rows by the column `key`; `-key` reverses the natural order (numbers descend, text ascends).
///
/// # Errors
/// What keys there are, when `key` is none of them.
pub fn sort<R: Row>(rows: &mut [R], key: Option<&str>) -> Result<(), String> {
    let key = key.unwrap_or(R::SORT);
    let (reverse, name) = key.strip_prefix('-').map_or((false, key), |name| (true, name));
    let Some(column) = R::COLUMNS.iter().find(|column| column.name == name) else {
        let names: Vec<_> = R::COLUMNS.iter().map(|column| column.name).collect();
        return Err(format!(
            "cannot sort by {:?}; sort by one of: {}",
            super::escape(name),
            names.join(", ")
        ));
    };
    rows.sort_by_cached_key(|row| Key((column.value)(row), reverse));
    Ok(())
}

#[derive(PartialEq)]
struct Key(Value, bool);

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.0.compare(&other.0);
        if self.1 { order.reverse() } else { order }
    }
}

/// Keeps the rows that have `text` in one of their text columns; case does not matter.
pub fn filter<R: Row>(rows: &mut Vec<R>, text: &str) {
    let text = text.to_lowercase();
    rows.retain(|row| {
        R::COLUMNS.iter().any(
            |column| matches!((column.value)(row), Value::Text(value) if value.to_lowercase().contains(&text)),
        )
    });
}
