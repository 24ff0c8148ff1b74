//! What every response says, and the responses that are written without hyper.

use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::error::ApiError;
use super::state::random;

/// The page's own scripts, styles and pictures, and the page's own server: nothing else may be loaded, asked or sent.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every response, unless it has another value for one.
const COMMON: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()"),
];

/// The name of a request, for people who compare what both sides say.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a name that a client gives.
const MOST_ID: usize = 64;

/// A request's name: the client's if it is sound, else a random one.
pub(super) fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let is_sound = |value: &&HeaderValue| {
        let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=MOST_ID).contains(&value.len()) && value.as_bytes().iter().all(of_name)
    };
    if let Some(sound) = given.filter(is_sound) {
        return sound.clone();
    }
    let id = format!("{:016x}{:016x}", random(), random());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// Adds what every response says.
pub(super) fn complete<B>(response: &mut Response<B>, id: HeaderValue) {
    let headers = response.headers_mut();
    for (name, value) in COMMON {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(REQUEST_ID, id);
}

/// An error as the bytes of a whole response, for requests that hyper does not see.
pub(super) fn raw(error: &ApiError) -> Vec<u8> {
    let body = serde_json::to_string(&error.body).unwrap_or_default();
    let status = error.status;
    let mut text = format!(
        "HTTP/1.1 {} {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        body.len()
    );
    if let Some(seconds) = error.retry_after {
        text += &format!("retry-after: {seconds}\r\n");
    }
    for (name, value) in COMMON {
        text += &format!("{name}: {value}\r\n");
    }
    let id = request_id(None);
    text += &format!("{REQUEST_ID}: {}\r\n\r\n{body}", id.to_str().unwrap_or_default());
    text.into_bytes()
}

/// The error for a head that is too large.
pub(super) fn too_large_head(message: &str) -> ApiError {
    ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request_error", message)
}

/// The error for what did not come in time.
pub(super) fn too_slow(message: &str) -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_names_are_kept() {
        for (given, kept) in [("a-1_B.2", true), ("", false), ("a b", false), (&"x".repeat(65), false)] {
            let value = HeaderValue::try_from(given).unwrap();
            assert_eq!(request_id(Some(&value)) == value, kept, "{given}");
        }
        assert_ne!(request_id(None), request_id(None));
    }

    #[test]
    fn raw_errors_are_whole_responses() {
        let text = String::from_utf8(raw(&ApiError::unavailable("full"))).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        for line in [
            "retry-after: 1",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            &format!("content-length: {}", body.len()),
        ] {
            assert!(head.lines().any(|found| found == line), "{line} in {head}");
        }
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["error"]["message"], "full");
    }
}
