//! Packages from a web server: one request tells whether there is a new one.
//!
//! Nothing that the server says is believed but what the signed head of a package confirms; its tags only save time.

use std::io::Read;
use std::time::Duration;

use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, RequestBuilder};

use super::super::error::{CliError, SlotsError};
use super::super::output::{note, with_causes};
use super::super::stored::Slots;
use super::source::{Shown, tell_part};
use crate::store::web_agent;
use crate::updates::{Origin, PackageId, Partial, UpdateError};

/// How often a connection that ends early is made again at once, and how long is waited before.
const TRIES: usize = 3;
const WAIT: Duration = Duration::from_secs(2);

/// What a request found.
enum Found {
    Installed(PackageId),
    NothingNew,
    /// The connection ended early; what came is kept.
    Cut(UpdateError),
}

/// Installs what is at the address, if it is new; a part that is there is gone on with.
pub(super) fn update(slots: &Slots, url: &str) -> Result<Option<PackageId>, CliError> {
    let agent = web_agent()?;
    let mut tries = TRIES;
    loop {
        match attempt(slots, &agent, url)? {
            Found::Installed(package) => return Ok(Some(package)),
            Found::NothingNew => return Ok(None),
            Found::Cut(error) if tries == 1 => return Err(error.into()),
            Found::Cut(error) => {
                note(format_args!("{}; trying again", with_causes(&error)));
                tries -= 1;
                std::thread::sleep(WAIT);
            }
        }
    }
}

fn attempt(slots: &Slots, agent: &Agent, url: &str) -> Result<Found, CliError> {
    let installer = slots.installer()?;
    let is_of_url = |origin: &&Origin| origin.url == url;
    let part =
        installer.partial().filter(|part| is_of_url(&&part.origin) && validator(&part.origin).is_some());
    let known = installer.known().filter(is_of_url).cloned();
    let response = match (&part, &known) {
        (Some(part), _) => ask(url, after(agent.get(url), part))?,
        (None, Some(known)) => ask(url, unless(agent.get(url), known))?,
        (None, None) => ask(url, agent.get(url))?,
    };
    let origin = origin(url, &response);
    let length = text(&response, "content-length").and_then(|length| length.parse::<u64>().ok());
    let result = match response.status() {
        StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Found::NothingNew),
        StatusCode::PARTIAL_CONTENT => {
            let Some(part) = part.filter(|part| begins_at(&response) == Some(part.bytes)) else {
                return Err(SlotsError::OtherPart { url: url.to_owned() }.into());
            };
            tell_part(&part);
            let total = Some(part.package.bytes);
            installer.go_on(&part, &mut Shown::new(body(response), total).after(part.bytes))
        }
        StatusCode::OK => installer.install_from(&mut Shown::new(body(response), length), origin),
        status => return Err(SlotsError::Status { url: url.to_owned(), status: status.as_u16() }.into()),
    };
    match result {
        Ok(package) => Ok(Found::Installed(package)),
        Err(UpdateError::NotNewer { found, highest }) if found == highest => Ok(Found::NothingNew),
        Err(UpdateError::IsHere { .. }) => Ok(Found::NothingNew),
        Err(error @ (UpdateError::Source(_) | UpdateError::Length { found: Some(_), .. })) => {
            Ok(Found::Cut(error))
        }
        Err(error) => Err(error.into()),
    }
}

type Request = RequestBuilder<ureq::typestate::WithoutBody>;

/// Asks for what follows a part, if nothing has changed since; else for all.
fn after(request: Request, part: &Partial) -> Request {
    let request = request.header(header::RANGE, format!("bytes={}-", part.bytes));
    match validator(&part.origin) {
        Some(validator) => request.header(header::IF_RANGE, validator),
        None => request,
    }
}

/// Asks for what has changed.
fn unless(mut request: Request, known: &Origin) -> Request {
    if let Some(tag) = &known.tag {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    if let Some(modified) = &known.modified {
        request = request.header(header::IF_MODIFIED_SINCE, modified);
    }
    request
}

/// What tells that a file is the same to its last byte; a weak tag does not.
fn validator(origin: &Origin) -> Option<&str> {
    match &origin.tag {
        Some(tag) => Some(tag.as_str()).filter(|tag| !tag.starts_with("W/")),
        None => origin.modified.as_deref(),
    }
}

fn ask(url: &str, request: Request) -> Result<Response<Body>, CliError> {
    request
        .call()
        .map_err(|error| SlotsError::Network { url: url.to_owned(), source: Box::new(error) }.into())
}

/// What the server says of the file, as far as it can be kept.
fn origin(url: &str, response: &Response<Body>) -> Origin {
    let kept = |name| text(response, name).map(str::to_owned);
    Origin { url: url.to_owned(), tag: kept("etag"), modified: kept("last-modified") }.fitting()
}

fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Where the part of a file begins that was sent.
fn begins_at(response: &Response<Body>) -> Option<u64> {
    text(response, "content-range")?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn body(response: Response<Body>) -> impl Read {
    response.into_body().into_reader()
}
