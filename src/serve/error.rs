//! What is wrong with a request, in the shape that OpenAI's clients know.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ask::{ItemError, KeyError, Trouble};

/// Seconds after which a client may ask again where the queue is full.
const RETRY_SECONDS: u16 = 1;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<u16>,
    pub(super) body: ErrorBody,
}

/// The body of a response that is an error.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct ErrorBody {
    pub(super) error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct ErrorDetail {
    /// For people.
    pub(super) message: String,
    /// The class of the error.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The key of the request that is wrong.
    pub(super) param: Option<String>,
    /// For programs.
    pub(super) code: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> ApiError {
        let error = ErrorDetail { message: message.into(), kind, param: None, code: None };
        ApiError { status, retry_after: None, body: ErrorBody { error } }
    }

    /// The request is wrong, and will be if it is sent again.
    pub(super) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// There is nothing at this address.
    pub(super) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).with_code("not_found")
    }

    /// It is not known who asks.
    pub(super) fn unauthorized() -> ApiError {
        let message = "a token is needed: send it as Authorization: Bearer TOKEN";
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message).with_code("invalid_api_key")
    }

    /// Who asks may not.
    pub(super) fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", message).with_code("forbidden")
    }

    /// There are too many requests.
    pub(super) fn busy(message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        ApiError { retry_after: Some(RETRY_SECONDS), ..error.with_code("rate_limit_exceeded") }
    }

    /// Nothing is answered at the moment.
    pub(super) fn unavailable(message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        ApiError { retry_after: Some(RETRY_SECONDS), ..error.with_code("unavailable") }
    }

    /// The program failed.
    pub(super) fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).with_code("internal_error")
    }

    pub(super) fn with_param(mut self, param: impl Into<String>) -> ApiError {
        self.body.error.param = Some(param.into()).filter(|param| !param.is_empty());
        self
    }

    pub(super) fn with_code(mut self, code: &'static str) -> ApiError {
        self.body.error.code = Some(code);
        self
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> ApiError {
        ApiError::invalid(error.to_string()).with_param(error.key())
    }
}

impl From<ItemError> for ApiError {
    fn from(error: ItemError) -> ApiError {
        let param = error.param.unwrap_or_default();
        match error.trouble {
            Trouble::Item => ApiError::invalid(error.message).with_param(param),
            Trouble::TooLong => {
                ApiError::invalid(error.message).with_param(param).with_code("context_length_exceeded")
            }
            Trouble::QueueFull => ApiError::busy(error.message),
            Trouble::Passing => ApiError::unavailable(error.message),
            Trouble::Model => ApiError::internal(error.message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
