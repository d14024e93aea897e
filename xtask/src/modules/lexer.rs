//! Just enough of Rust's tokens to find paths: identifiers, strings and punctuation with their lines. Comments, numbers
//! and lifetimes are passed over.

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Line, from 1.
    pub line: usize,
}

/// Kind of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Identifier or keyword.
    Ident(String),
    /// String literal, as written between the quotes.
    Text(String),
    /// `::`
    Colons,
    /// Any other character.
    Punct(char),
}

impl Token {
    /// The identifier, if it is one.
    pub fn ident(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it is this character.
    pub fn is(&self, punct: char) -> bool {
        self.kind == Kind::Punct(punct)
    }
}

/// The tokens of a file.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source, line: 1 };
    std::iter::from_fn(|| lexer.next()).collect()
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        loop {
            let first = self.rest.chars().next()?;
            let line = self.line;
            let token = |kind| Some(Token { kind, line });
            if self.rest.starts_with("//") {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.skip(comment(self.rest));
            } else if self.rest.starts_with("::") {
                self.skip(2);
                return token(Kind::Colons);
            } else if let Some((text, length)) = string(self.rest) {
                let text = text.to_owned();
                self.skip(length);
                return token(Kind::Text(text));
            } else if let Some(length) = quoted(self.rest) {
                self.skip(length);
            } else if first == '_' || first.is_alphabetic() {
                let word = self.word();
                return token(Kind::Ident(word));
            } else if first.is_ascii_digit() {
                self.word();
            } else {
                self.skip(first.len_utf8());
                if !first.is_whitespace() {
                    return token(Kind::Punct(first));
                }
            }
        }
    }

    fn word(&mut self) -> String {
        let raw = self.rest.strip_prefix("r#").map_or(0, |_| 2);
        let body = self.rest.get(raw..).unwrap_or_default();
        let end = body.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(body.len());
        let word = body.get(..end).unwrap_or_default().to_owned();
        self.skip(raw + end);
        word
    }

    fn skip(&mut self, bytes: usize) {
        let (gone, rest) = self.rest.split_at(bytes);
        self.line += gone.matches('\n').count();
        self.rest = rest;
    }
}

/// Length of a block comment; they nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            match rest.chars().next() {
                Some(next) => at += next.len_utf8(),
                None => break,
            }
        }
    }
    text.len()
}

/// The string literal that `text` begins with, and the length of the literal.
fn string(text: &str) -> Option<(&str, usize)> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix).map(|rest| rest.trim_start_matches('#'));
        rest.is_some_and(|rest| rest.starts_with('"'))
    })?;
    let rest = text.get(prefix.len()..)?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    if hashes > 0 && !prefix.ends_with('r') {
        return None;
    }
    let body = rest.get(hashes + 1..)?;
    let before = prefix.len() + hashes + 1;
    let end = if prefix.ends_with('r') {
        body.find(&format!("\"{}", "#".repeat(hashes))).unwrap_or(body.len())
    } else {
        let mut escaped = false;
        let ends = |c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        };
        body.find(ends).unwrap_or(body.len())
    };
    let length = (before + end + 1 + hashes).min(text.len());
    Some((body.get(..end)?, length))
}

/// Length of the character literal or lifetime that `text` begins with.
fn quoted(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("b'").or_else(|| text.strip_prefix('\''))?;
    let before = text.len() - rest.len();
    let mut chars = rest.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next();
        return Some(before + rest.get(2..)?.find('\'')? + 3);
    }
    if let Some((at, '\'')) = chars.next() {
        return Some(before + at + 1);
    }
    let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
    Some(before + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idents(source: &str) -> Vec<(String, usize)> {
        let tokens = tokens(source);
        tokens.iter().filter_map(|token| Some((token.ident()?.to_owned(), token.line))).collect()
    }

    #[test]
    fn what_is_quoted_or_said_is_no_path() {
        let source = concat!(
            "// crate::a\n/* crate::b /* c */ d */ x\n",
            "\"crate::e \\\" f\" b\"g\" r#\"h \" i\"# y '\\'' '\"' z\n",
            "fn f<'life>(q: &'life str) -> char { '\u{e9}' }\nr#type 1_u32 '\\u{1f}' b'\\n' end",
        );
        let found = idents(source);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x", "y", "z", "fn", "f", "q", "str", "char", "type", "end"]);
        assert_eq!(found.last().map(|(_, line)| *line), Some(5));
    }

    #[test]
    fn strings_and_colons_are_kept() {
        let kinds: Vec<_> = tokens("#[path = \"a.rs\"] b::c").into_iter().map(|token| token.kind).collect();
        assert!(kinds.contains(&Kind::Text("a.rs".into())));
        assert!(kinds.contains(&Kind::Colons));
    }
}
