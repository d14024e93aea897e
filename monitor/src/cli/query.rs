//! Commands that print a list of rows.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Client, ListArgs, Outcome, Usage, WatchArgs};
use crate::output::{self, Row};

pub fn list<R: Row + DeserializeOwned>(path: &str, args: &ListArgs) -> anyhow::Result<Outcome> {
    // a wrong column is told before anybody is asked
    output::sort::<R>(&mut [], args.sort.as_deref()).map_err(Usage)?;
    let limit = args.limit.map(|limit| limit.to_string());
    let mut query = Vec::new();
    for (key, value) in [("sort", &args.sort), ("filter", &args.filter), ("limit", &limit)] {
        if let Some(value) = value {
            query.push((key, value.as_str()));
        }
    }
    let client = Client::new(&args.client.socket)?;
    repeat(args.client.watch, || {
        let rows: Vec<R> = client.get(path, &query)?;
        if args.client.watch.watch.is_some() {
            output::clear()?;
        }
        output::print(&rows, args.client.output.style())?;
        Ok(Outcome::Fine)
    })
}

/// Once, or again and again until it fails or is interrupted.
pub fn repeat(
    watch: WatchArgs,
    mut once: impl FnMut() -> anyhow::Result<Outcome>,
) -> anyhow::Result<Outcome> {
    let Some(interval) = watch.watch else { return once() };
    loop {
        once()?;
        std::thread::sleep(interval.max(Duration::from_millis(100)));
    }
}
