//! What servers are known to handle and Weir not to count: forms, the servers, and why.
//!
//! The test fails when an entry is no longer true, so that the table only shrinks.

/// An entry of the table.
pub struct Known {
    /// Forms that do it together, joined by ` + `; mostly one.
    pub forms: &'static str,
    /// The servers.
    pub servers: &'static str,
    /// What they do.
    pub why: &'static str,
}

impl Known {
    /// The names of its forms.
    pub fn classes(&self) -> impl Iterator<Item = &'static str> {
        self.forms.split(" + ")
    }
}

macro_rules! known {
    ($($why:literal { $($forms:literal at $servers:literal;)+ })+) => {
        /// The table.
        pub const KNOWN: &[Known] =
            &[$($(Known { forms: $forms, servers: $servers, why: $why }),+),+];
    };
}

known! {
    "empty lines in front of a request line are skipped; Weir takes the connection for something else" {
        "front/cr" at "aiohttp";
        "front/crlf" at "aiohttp";
        "front/two-crlf" at "aiohttp";
    }
    "CONNECT is handled like any method, and what follows on its connection, too; Weir takes it for a tunnel" {
        "method/connect" at "aiohttp";
    }
    "the coding is not compared as a list of tokens, or is ignored" {
        "coding/empty" at "aiohttp";
        "coding/empty-length" at "aiohttp";
    }
    "a head that the end of the connection cuts off is handled" {
        "cut/line" at "http.server";
    }
}
