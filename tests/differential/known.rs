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
    "forms that each alone are counted; to Weir no request begins so, or the length is none" {
        "gap/blank-tab + method/describe" at "http.server waitress";
        "length/semicolon + line-end/lf-cr" at "http.server";
    }
    "a head that the end of the connection cuts off is handled" {
        "cut/line" at "http.server";
    }
}

known! {
    /// Handled outside the access level of everybody.
    OUTSIDE
    "white space at the end of the request line is trimmed" {
        "behind/blank" at "nginx http.server cheroot waitress";
        "behind/cr" at "http.server tornado cheroot waitress";
        "behind/ff" at "http.server cheroot waitress";
        "behind/nel" at "http.server";
        "behind/tab" at "http.server cheroot waitress";
        "behind/two-blanks" at "nginx http.server cheroot waitress";
        "behind/vt" at "http.server cheroot waitress";
    }
    "a head that the end of the connection cuts off is handled" {
        "cut/body" at "http.server";
        "cut/head" at "http.server";
        "cut/line" at "http.server";
        "cut/version" at "http.server";
    }
    "empty lines in front of a request line are skipped; Weir takes the connection for something else" {
        "front/100-crlf" at "nginx node aiohttp uvicorn-httptools waitress";
        "front/8-crlf" at "nginx node aiohttp uvicorn-httptools waitress";
        "front/cr" at "nginx node http.server aiohttp uvicorn-httptools tornado cheroot waitress";
        "front/crlf" at "nginx node aiohttp uvicorn-httptools gunicorn tornado cheroot waitress";
        "front/lf" at "nginx node aiohttp uvicorn-httptools tornado waitress";
        "front/two-crlf" at "nginx node aiohttp uvicorn-httptools waitress";
    }
    "these bytes in front are trimmed, or taken as part of the method; to Weir no request begins with them" {
        "front/blank" at "http.server cheroot waitress";
        "front/blank-crlf" at "waitress";
        "front/bom" at "http.server cheroot";
        "front/ff" at "http.server cheroot waitress";
        "front/high" at "http.server cheroot";
        "front/nel" at "cheroot";
        "front/nul" at "http.server cheroot";
        "front/tab" at "http.server cheroot waitress";
        "front/vt" at "http.server cheroot waitress";
    }
    "words are split at any white space" {
        "gap/cr" at "http.server";
        "gap/ff" at "http.server";
        "gap/nbsp" at "http.server";
        "gap/tab" at "http.server";
        "gap/vt" at "http.server";
        "version/ff" at "http.server waitress";
        "version/tab" at "http.server waitress";
        "version/vt" at "http.server waitress";
    }
    "methods of any length are taken; Weir takes up to 32 letters" {
        "method/300-letters" at "nginx go http.server uvicorn-h11 tornado cheroot waitress";
        "method/3000-letters" at "nginx go http.server uvicorn-h11 tornado cheroot waitress";
        "method/34-letters" at "nginx go http.server uvicorn-h11 tornado cheroot waitress";
    }
    "the method is whatever stands in front of the first blank" {
        "method/at" at "http.server cheroot";
        "method/colon" at "http.server cheroot";
        "method/del" at "http.server cheroot";
        "method/high" at "http.server cheroot";
        "method/http" at "http.server cheroot";
        "method/nul" at "http.server cheroot";
        "method/parenthesis" at "http.server cheroot";
        "method/quoted" at "http.server cheroot";
        "method/slash" at "http.server cheroot";
    }
    "version numbers that Weir does not know are taken" {
        "version/0.0" at "http.server uvicorn-h11 waitress";
        "version/01.1" at "http.server cheroot";
        "version/1.01" at "nginx http.server cheroot";
        "version/1.10" at "nginx http.server";
        "version/1.1000" at "http.server";
        "version/1.32" at "nginx http.server";
        "version/2.0" at "node aiohttp uvicorn-h11 uvicorn-httptools waitress";
        "version/3.0" at "uvicorn-h11 waitress";
        "version/9.9" at "uvicorn-h11 waitress";
        "version/blank-dot" at "cheroot";
        "version/ice-source" at "node aiohttp uvicorn-httptools";
        "version/minus" at "http.server";
        "version/plus" at "http.server cheroot";
        "version/plus-minor" at "http.server cheroot";
        "version/rtsp" at "node aiohttp uvicorn-httptools";
        "version/rtsp-describe" at "node aiohttp uvicorn-httptools";
        "version/slash-blank" at "cheroot";
        "version/underscore" at "http.server";
    }
    "a request line without a version, or with HTTP/0.9, is answered" {
        "version/0.9" at "node http.server aiohttp uvicorn-h11 uvicorn-httptools waitress";
        "version/blank" at "nginx http.server waitress";
        "version/none" at "nginx node http.server aiohttp uvicorn-httptools waitress";
    }
}

known! {
    /// Connections that get more than their cap lets through.
    UNCAPPED
    "white space at the end of the request line is trimmed" {
        "behind/blank" at "nginx http.server cheroot waitress";
        "behind/cr" at "http.server tornado cheroot waitress";
        "behind/ff" at "http.server cheroot waitress";
        "behind/nel" at "http.server";
        "behind/tab" at "http.server cheroot waitress";
        "behind/two-blanks" at "nginx http.server cheroot waitress";
        "behind/vt" at "http.server cheroot waitress";
    }
    "the size is read as the language reads numbers" {
        "chunk/0x" at "http.server cheroot";
        "chunk/blank-front" at "http.server cheroot";
        "chunk/plus" at "http.server cheroot";
        "chunk/underscore" at "http.server cheroot";
        "chunk/vt-behind" at "http.server cheroot";
    }
    "leading zeros have no limit" {
        "chunk/2000-digits" at "nginx node http.server aiohttp uvicorn-httptools gunicorn cheroot waitress";
        "length/20-digits" at "nginx node go http.server aiohttp uvicorn-h11 uvicorn-httptools gunicorn tornado cheroot waitress";
        "length/2000-digits" at "nginx node go http.server aiohttp uvicorn-httptools gunicorn tornado cheroot waitress";
        "length/40-digits" at "nginx node go http.server aiohttp uvicorn-httptools gunicorn tornado cheroot waitress";
    }
    "what ends a chunk or the body is read differently" {
        "chunk/data-longer" at "http.server";
    }
    "the coding is not compared as a list of tokens, or is ignored" {
        "coding/blank-name" at "cheroot";
        "coding/comma-behind" at "cheroot waitress";
        "coding/cr-behind" at "nginx http.server cheroot";
        "coding/empty" at "node http.server aiohttp cheroot waitress";
        "coding/empty-length" at "node http.server aiohttp cheroot waitress";
        "coding/identity" at "http.server";
        "coding/identity-length" at "http.server";
        "coding/identity-line" at "http.server";
        "coding/vt-behind" at "http.server cheroot";
        "coding/vt-front" at "http.server cheroot";
        "coding/word-length" at "http.server";
    }
    "the length is read as the language reads numbers, or no length is none" {
        "length/blank" at "go http.server";
        "length/empty" at "go http.server";
        "length/empty-body" at "go http.server";
        "length/ff-behind" at "http.server cheroot";
        "length/fold" at "go http.server uvicorn-h11 cheroot waitress";
        "length/minus-zero" at "http.server cheroot";
        "length/nbsp-behind" at "http.server";
        "length/plus" at "http.server cheroot";
        "length/underscore" at "http.server cheroot";
        "length/vt-behind" at "http.server cheroot";
        "length/vt-front" at "http.server cheroot";
    }
    "several lengths: the first or the last counts, or they are the same" {
        "length/comma-blank-same" at "uvicorn-h11 tornado";
        "length/comma-same" at "uvicorn-h11 tornado";
        "length/twice-first" at "http.server";
        "length/twice-last" at "http.server cheroot";
    }
    "methods of any length are taken; Weir takes up to 32 letters" {
        "method/300-letters" at "nginx go http.server uvicorn-h11 tornado cheroot waitress";
        "method/3000-letters" at "nginx go http.server uvicorn-h11 tornado cheroot waitress";
        "method/34-letters" at "nginx go http.server uvicorn-h11 tornado cheroot waitress";
    }
    "the method is whatever stands in front of the first blank" {
        "method/http" at "http.server cheroot";
    }
    "version numbers that Weir does not know are taken" {
        "version/01.1" at "http.server cheroot";
        "version/1.01" at "nginx http.server cheroot";
        "version/1.10" at "nginx http.server";
        "version/1.1000" at "http.server";
        "version/1.32" at "nginx http.server";
        "version/2.0" at "uvicorn-h11";
        "version/3.0" at "uvicorn-h11";
        "version/9.9" at "uvicorn-h11";
        "version/blank-dot" at "cheroot";
        "version/plus" at "http.server cheroot";
        "version/plus-minor" at "http.server cheroot";
        "version/slash-blank" at "cheroot";
        "version/underscore" at "http.server";
    }
    "words are split at any white space" {
        "version/ff" at "http.server";
        "version/tab" at "http.server";
        "version/vt" at "http.server";
    }
}
