//! What an `Authorization` value is, and the parts of it that may be shown: a Basic user, a JWT's issuer and subject.
//!
//! Claims are read without checking a signature: they are what the caller says, until the server accepts them.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::head::{split_at_byte, trim};
use super::looks_random;

/// Most bytes of a JWT part, or of Basic credentials, that are decoded.
const PART_BYTES: usize = 8192;

/// Decoders that do not insist on padding: clients send both.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// What an `Authorization` value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Opaque token, or any scheme that has no place of its own.
    Bearer,
    /// Token of three base64url parts whose first is a JSON object with `alg`.
    Jwt,
    /// User and password.
    Basic,
    /// AWS-style signature.
    Aws,
    /// A bare value without a scheme.
    Bare,
}

/// The public part of a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Basic user or JWT subject.
    pub subject: Vec<u8>,
    /// JWT issuer, empty when it has none.
    pub issuer: Vec<u8>,
}

/// Tells what `value` is, from the value alone.
pub fn scheme(value: &[u8]) -> Scheme {
    let (scheme, rest) = split(value);
    if rest.is_empty() {
        return Scheme::Bare;
    }
    let is = |name: &[u8]| scheme.eq_ignore_ascii_case(name);
    if is(b"basic") {
        Scheme::Basic
    } else if is(b"aws") || scheme.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"aws4-")) {
        Scheme::Aws
    } else if jwt_parts(rest).is_some_and(|(header, _)| is_jwt_header(header)) {
        Scheme::Jwt
    } else {
        Scheme::Bearer
    }
}

/// The public part of a Basic or JWT value; `None` when there is none that could name anybody.
pub fn claims(value: &[u8]) -> Option<Claims> {
    let (_, rest) = split(value);
    let claims = match scheme(value) {
        Scheme::Basic => {
            let decoded = STANDARD.decode(rest.get(..rest.len().min(PART_BYTES))?).ok()?;
            let (user, password) = split_at_byte(&decoded, b':');
            if !is_public(user, password) {
                return None;
            }
            Claims { subject: user.to_vec(), issuer: Vec::new() }
        }
        Scheme::Jwt => {
            let (_, payload) = jwt_parts(rest)?;
            let payload: Payload = serde_json::from_slice(&decode_part(payload)?).ok()?;
            let text = |value: Option<serde_json::Value>| match value {
                Some(serde_json::Value::String(text)) => text.into_bytes(),
                _ => Vec::new(),
            };
            Claims { subject: text(payload.sub), issuer: text(payload.iss) }
        }
        Scheme::Bearer | Scheme::Aws | Scheme::Bare => return None,
    };
    (!claims.subject.is_empty()).then_some(claims)
}

/// Whether the user of Basic authentication is a name. Many APIs take their key in its place, with no password or a filler.
fn is_public(user: &[u8], password: &[u8]) -> bool {
    const FILLERS: &[&[u8]] = &[b"", b"x", b"X", b"x-oauth-basic", b"x-token-auth", b"api_token", b"token"];
    !FILLERS.contains(&password) && user.len() < 64 && !looks_random(user)
}

#[derive(Deserialize)]
struct Payload {
    iss: Option<serde_json::Value>,
    sub: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "alg")]
    _alg: String,
}

fn split(value: &[u8]) -> (&[u8], &[u8]) {
    let value = trim(value);
    match value.iter().position(u8::is_ascii_whitespace).and_then(|at| value.split_at_checked(at)) {
        Some((scheme, rest)) => (scheme, trim(rest)),
        None => (value, &[]),
    }
}

/// Header and payload of something with the shape of a signed JWT; the signature may be empty (`alg: none`).
fn jwt_parts(token: &[u8]) -> Option<(&[u8], &[u8])> {
    // every JWT begins with `{"`, which is `eyJ`; blanks after the brace are legal but unheard of
    if !token.starts_with(b"ey") {
        return None;
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && !payload.is_empty()).then_some((header, payload))
}

fn decode_part(part: &[u8]) -> Option<Vec<u8>> {
    if part.len() > PART_BYTES {
        return None;
    }
    URL_SAFE.decode(part).ok()
}

fn is_jwt_header(header: &[u8]) -> bool {
    decode_part(header).is_some_and(|bytes| serde_json::from_slice::<Header>(&bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn jwt(header: &str, payload: &str) -> Vec<u8> {
        format!("Bearer {}.{}.c2ln", URL_SAFE.encode(header), URL_SAFE.encode(payload)).into_bytes()
    }

    #[test]
    fn schemes_are_told_apart() {
        for (value, want) in [
            (&b"Bearer abc"[..], Scheme::Bearer),
            (b"bearer a.b.c", Scheme::Bearer),
            (b"Token abc", Scheme::Bearer),
            (b"Basic YTpi", Scheme::Basic),
            (b"AWS4-HMAC-SHA256 Credential=AKIA/2026", Scheme::Aws),
            (b"AWS AKIA:sig", Scheme::Aws),
            (b"justakey", Scheme::Bare),
            (b"", Scheme::Bare),
        ] {
            assert_eq!(scheme(value), want, "{}", String::from_utf8_lossy(value));
        }
        assert_eq!(scheme(&jwt(r#"{"alg":"RS256"}"#, "{}")), Scheme::Jwt);
        assert_eq!(scheme(&jwt(r#"{"typ":"JWT"}"#, "{}")), Scheme::Bearer);
    }

    #[test]
    fn only_the_public_part_comes_out() {
        let found = claims(b"Basic YWxpY2U6c2VjcmV0").unwrap();
        assert_eq!((&found.subject[..], &found.issuer[..]), (&b"alice"[..], &b""[..]));
        let alg = r#"{"alg":"HS256"}"#;
        let found = claims(&jwt(alg, r#"{"sub":"bob","iss":"https://idp","x":[1,{}]}"#)).unwrap();
        assert_eq!((&found.subject[..], &found.issuer[..]), (&b"bob"[..], &b"https://idp"[..]));
        for payload in [r#"{"sub":7}"#, r#"{"iss":"x"}"#, "[]", "nonsense", r#"{"sub":"a","sub":"b"}"#] {
            assert_eq!(claims(&jwt(alg, payload)), None, "{payload}");
        }
        assert_eq!(claims(&jwt(alg, &format!(r#"{{"sub":"{}"}}"#, "x".repeat(9000)))), None);
        assert_eq!(claims(b"Basic !!!!"), None);
        // keys in the place of the user: `sk_live_51HGxyz0AbCd:`, `ghp1:x-oauth-basic`, `AC0123456789abcdef:secret`
        for key in [
            "c2tfbGl2ZV81MUhHeHl6MEFiQ2Q6",
            "Z2hwMTp4LW9hdXRoLWJhc2lj",
            "QUMwMTIzNDU2Nzg5YWJjZGVmOnNlY3JldA==",
        ] {
            assert_eq!(claims(format!("Basic {key}").as_bytes()), None, "{key}");
        }
        assert_eq!(claims(b"Bearer opaque"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "(Basic|Bearer) ey[A-Za-z0-9_.=-]{0,60}") {
            claims(&bytes);
            claims(text.as_bytes());
        }
    }
}
