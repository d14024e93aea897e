//! What is known to get by Weir: forms, the servers that take them, and why.
//!
//! A test fails when an entry is no longer true, so that the tables only shrink.

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
    ($(#[$doc:meta])* $table:ident $($why:literal { $($forms:literal at $servers:literal;)+ })*) => {
        $(#[$doc])*
        pub const $table: &[Known] =
            &[$($(Known { forms: $forms, servers: $servers, why: $why },)+)*];
    };
}

known! {
    /// Handled, and not counted.
    UNCOUNTED
}

known! {
    /// Handled outside the access level of everybody.
    OUTSIDE
    "a head that the end of the connection cuts off is handled" {
        "cut/body" at "http.server";
        "cut/head" at "http.server";
        "cut/line" at "http.server";
        "cut/version" at "http.server";
    }
}

known! {
    /// Connections that get more than their cap lets through.
    UNCAPPED
}
