//! The admin API of a running server, as commands see it.

use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Method, RequestBuilder, Response, redirect};
use serde_json::Value;
use url::{Host, Url};

use super::failure::{Failure, Result};
use crate::config;

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 32 << 20;

/// A connection to a server, with its token.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    /// Where the token is from, for people.
    source: String,
    /// Answers are for a script.
    pub(super) json: bool,
    /// Of each request.
    pub(super) timeout: Duration,
}

/// What a request was answered, when it was not refused.
pub(super) struct Answer {
    pub(super) location: Option<String>,
    pub(super) body: Value,
}

impl Answer {
    /// The answer itself, out of its envelope if it has one.
    pub(super) fn data(mut self) -> Value {
        let enveloped = self.body.get("success").is_some() && self.body.get("data").is_some();
        if enveloped { self.body["data"].take() } else { self.body }
    }
}

impl Client {
    /// # Errors
    /// The URL is none that can be used.
    pub(super) fn new(settings: &config::Client) -> Result<Self> {
        let base = base(&settings.url)?;
        let (token, source) = token(settings, &base);
        let timeout = Duration::from_secs(settings.timeout);
        // A proxy or another server must not see the token.
        let http = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none());
        let http = http.build().map_err(|error| Failure::new("internal", error.to_string()))?;
        Ok(Self { http, base, token, source, json: settings.json, timeout })
    }

    pub(super) async fn get(&self, path: &[&str]) -> Result<Value> {
        Ok(self.send(self.request(Method::GET, path)).await?.data())
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<Value> {
        Ok(self.send(self.request(Method::DELETE, path)).await?.data())
    }

    pub(super) async fn post(&self, path: &[&str], body: Option<Value>) -> Result<Value> {
        let request = self.request(Method::POST, path);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        Ok(self.send(request).await?.data())
    }

    /// A request with the token. Each part of the path is encoded.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.query(method, path, &[])
    }

    /// As [`Self::request`], with a query.
    pub(super) fn query(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends, and reads the whole answer.
    ///
    /// # Errors
    /// The server's problem, or why there is none. After "no-answer" the change may have happened.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answered = async {
            let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
            let body = self.read(&mut response).await?;
            self.judge(&response, &body)
        };
        tokio::time::timeout(self.timeout, answered).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// Sends, and leaves the body to be read.
    pub(super) async fn open(&self, request: RequestBuilder) -> Result<Response> {
        let opening = tokio::time::timeout(self.timeout, request.send());
        let response = opening.await.map_err(|_| self.silent())?;
        response.map_err(|error| self.unreachable(&error))
    }

    async fn read(&self, response: &mut Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(Failure::new("too-large", format!("{} answers without end", self.base)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn judge(&self, response: &Response, body: &[u8]) -> Result<Answer> {
        let status = response.status();
        let parsed = match body {
            b"" if status.is_success() => Some(Value::Null),
            body => serde_json::from_slice::<Value>(body).ok(),
        };
        let problem = |body: &Value| self.problem(status.as_u16(), body);
        match parsed {
            Some(body) if status.is_success() => {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                Ok(Answer { location: location.map(str::to_owned), body })
            }
            Some(body) if body["code"].is_string() => Err(problem(&body)),
            _ => {
                let detail = format!("{} answered {status}, and not as Switchyard does", self.base);
                let hint = "does --url (SWITCHYARD_URL) name the address that switchyard serve listens on?";
                Err(Failure { status: Some(status.as_u16()), ..Failure::new("not-switchyard", detail) }
                    .hint(hint))
            }
        }
    }

    fn problem(&self, status: u16, body: &Value) -> Failure {
        let (code, detail) = (body["code"].as_str(), body["detail"].as_str());
        let failure = Failure::new(code.unwrap_or_default(), detail.unwrap_or_default());
        let failure = Failure { status: Some(status), ..failure };
        match (status, failure.code.as_str()) {
            (401 | 403, _) => failure.hint(format!(
                "{}; the server has its token from SWITCHYARD_ADMIN_TOKEN or keeps it in DATA/admin-token",
                self.source
            )),
            (_, "operation-running") => {
                failure.hint("switchyard operation list shows it, switchyard operation cancel ID ends it")
            }
            (_, "pinned") => failure.hint("switchyard strategy unpin lifts that"),
            (_, "store-down") => failure.hint("--even-if-down switches all the same"),
            _ => failure,
        }
    }

    fn silent(&self) -> Failure {
        let seconds = self.timeout.as_secs();
        let detail =
            format!("{} has not answered within {seconds} s; what was asked may have happened", self.base);
        Failure::new("no-answer", detail).hint("--timeout SECONDS waits longer")
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        if error.is_connect() {
            let detail = format!("cannot connect to {}: {reason}", self.base);
            return Failure::new("unreachable", detail)
                .hint("is the server running? --url (SWITCHYARD_URL) says where");
        }
        let detail = format!("{} broke off: {reason}; what was asked may have happened", self.base);
        Failure::new("no-answer", detail)
    }
}

fn base(text: &str) -> Result<Url> {
    let refuse = |detail: String| Failure::new("invalid-url", detail);
    let such = "--url (SWITCHYARD_URL) is such as http://127.0.0.1:3000";
    let url = Url::parse(text).map_err(|error| refuse(format!("{such}: {error}")))?;
    match url.scheme() {
        "http" => {}
        "https" => {
            let hint =
                "use a tunnel, such as ssh -L 3000:127.0.0.1:3000 HOST, or run it where the server runs";
            return Err(refuse("https:// is not spoken here, only http://".into()).hint(hint));
        }
        _ => return Err(refuse(such.into())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("--url has a user or a password; the token goes into SWITCHYARD_TOKEN".into()));
    }
    Ok(url)
}

/// The token and where it is from. The token in the data folder is for a server on this machine alone.
fn token(settings: &config::Client, base: &Url) -> (Option<String>, String) {
    let set = |token: &Option<String>| {
        token.as_deref().map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned)
    };
    if let Some(token) = set(&settings.token) {
        return (Some(token), "the token is from --token (SWITCHYARD_TOKEN)".into());
    }
    if let Some(token) = set(&settings.server_admin_token) {
        return (Some(token), "the token is from SWITCHYARD_ADMIN_TOKEN".into());
    }
    let file = settings.server_data.join("admin-token");
    let shown = file.display();
    if !is_here(base) {
        return (None, "no token was sent; set SWITCHYARD_TOKEN".into());
    }
    match std::fs::read_to_string(&file) {
        Ok(token) => (set(&Some(token)), format!("the token is from the file {shown}")),
        Err(error) => (
            None,
            format!("no token was sent; set SWITCHYARD_TOKEN (the file {shown} cannot be read: {error})"),
        ),
    }
}

fn is_here(base: &Url) -> bool {
    match base.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_refused_in_words() {
        for (url, word) in [
            ("https://relay.example", "https://"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("localhost:3000", "http://127.0.0.1:3000"),
            ("http://admin:hunter2@localhost", "SWITCHYARD_TOKEN"),
        ] {
            let refused = base(url).unwrap_err();
            assert!(refused.detail.contains(word) && !refused.detail.contains("hunter2"), "{refused:?}");
        }
    }

    #[test]
    fn the_token_of_the_data_folder_stays_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("admin-token"), "kept\n").unwrap();
        let settings = config::Client {
            url: String::new(),
            token: None,
            json: false,
            timeout: 1,
            server_admin_token: None,
            server_data: folder.path().to_owned(),
        };
        let of = |url: &str| token(&settings, &base(url).unwrap()).0;
        assert_eq!(of("http://127.0.0.1:3000").as_deref(), Some("kept"));
        assert_eq!(of("http://[::1]:3000").as_deref(), Some("kept"));
        assert_eq!(of("http://relay.example:3000"), None);
    }
}
