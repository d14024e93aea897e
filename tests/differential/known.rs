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
        "front/cr" at "nginx node http.server aiohttp uvicorn-httptools tornado cheroot waitress";
        "front/crlf" at "nginx node aiohttp uvicorn-httptools gunicorn tornado cheroot waitress";
        "front/lf" at "nginx node aiohttp uvicorn-httptools tornado waitress";
        "front/100-crlf" at "nginx node aiohttp uvicorn-httptools waitress";
        "front/8-crlf" at "nginx node aiohttp uvicorn-httptools waitress";
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
    "CONNECT is handled like any method, and what follows on its connection, too; Weir takes it for a tunnel" {
        "length/on-connect" at "go http.server uvicorn-httptools tornado waitress";
        "method/connect" at "go http.server aiohttp uvicorn-httptools tornado waitress";
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
    "a request line without a version, or with HTTP/0.9, is answered" {
        "version/0.9" at "node http.server aiohttp uvicorn-h11 uvicorn-httptools waitress";
        "version/blank" at "nginx http.server waitress";
        "version/none" at "nginx node http.server aiohttp uvicorn-httptools waitress";
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
    "white space at the end of the request line is trimmed" {
        "behind/blank" at "nginx http.server cheroot waitress";
        "behind/cr" at "http.server tornado cheroot waitress";
        "behind/ff" at "http.server cheroot waitress";
        "behind/nel" at "http.server";
        "behind/tab" at "http.server cheroot waitress";
        "behind/two-blanks" at "nginx http.server cheroot waitress";
        "behind/vt" at "http.server cheroot waitress";
    }
    "a carriage return in front of the line end is trimmed" {
        "head-end/cr" at "http.server";
        "head-end/cr-cr-lf" at "http.server";
        "header/cr" at "http.server";
    }
    "leading zeros have no limit" {
        "chunk/2000-digits" at "nginx node http.server aiohttp uvicorn-httptools gunicorn cheroot waitress";
        "length/20-digits" at "nginx node go http.server aiohttp uvicorn-h11 uvicorn-httptools gunicorn tornado cheroot waitress";
        "length/2000-digits" at "nginx node go http.server aiohttp uvicorn-httptools gunicorn tornado cheroot waitress";
        "length/40-digits" at "nginx node go http.server aiohttp uvicorn-httptools gunicorn tornado cheroot waitress";
    }
    "several lengths: the first or the last counts, or they are the same" {
        "length/comma-blank-same" at "uvicorn-h11 tornado";
        "length/comma-same" at "uvicorn-h11 tornado";
        "length/twice-first" at "http.server";
        "length/twice-last" at "http.server cheroot";
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
    "the size is read as the language reads numbers" {
        "chunk/0x" at "http.server cheroot";
        "chunk/blank-front" at "http.server cheroot";
        "chunk/plus" at "http.server cheroot";
        "chunk/underscore" at "http.server cheroot";
        "chunk/vt-behind" at "http.server cheroot";
    }
    "what ends a chunk or the body is read differently" {
        "chunk/data-longer" at "http.server";
        "chunk/last-cr" at "cheroot";
        "chunk/last-no-empty-line" at "cheroot";
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
    "a head that the end of the connection cuts off is handled" {
        "cut/body" at "http.server";
        "cut/head" at "http.server";
        "cut/line" at "http.server";
        "cut/version" at "http.server";
    }
}
