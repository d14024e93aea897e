//! Telling what was drawn by lot from what somebody chose.

/// Whether `text` looks like a token: long, and mixed as no word is, with upper and lower case and digits, or a long run
/// that holds several digits.
pub fn looks_random(text: &[u8]) -> bool {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    if text.len() < 16 || digits == 0 {
        return false;
    }
    let longest = text.split(|byte| !byte.is_ascii_alphanumeric()).map(<[u8]>::len).max().unwrap_or(0);
    let mixed = text.iter().any(u8::is_ascii_uppercase) && text.iter().any(u8::is_ascii_lowercase);
    (mixed && longest >= 6) || (digits >= 3 && longest >= 12)
}
