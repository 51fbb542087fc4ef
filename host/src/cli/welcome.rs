//! What the person who starts a server is told: its token, and what to try.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::terminal;
use crate::server::Server;

/// What is said where the answers would not be made up.
const WITHOUT_DEMO: &str =
    "To try the relay with answers that are made up, start it again with --demo-upstream.\n";

/// The token is shown once.
pub(super) fn welcome(server: &Server, kept: &Path, demo: bool) {
    if server.token_is_new() {
        let token = server.admin_token();
        say(&format!("\nThe admin token, shown this once and kept in {}:\n\n  {token}", kept.display()));
    }
    let (url, token) = (url(server.addr()), quoted(kept));
    let relayed = if demo { relayed_steps(&url, &token) } else { String::new() };
    let first = first_steps(&url, &token);
    let also = if demo { "" } else { WITHOUT_DEMO };
    say(&format!("\nTry:\n\n{relayed}{first}\n{also}"));
}

/// Nothing is lost when nobody reads it: the server goes on.
fn say(text: &str) {
    let _ = terminal::print(text);
}

fn url(mut addr: SocketAddr) -> String {
    match addr.ip() {
        // "All addresses" is none to connect to.
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{addr}")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// Commands for a shell in the folder that the server was started in.
fn first_steps(url: &str, token: &str) -> String {
    let token = format!("-H \"Authorization: Bearer $(cat {token})\"");
    format!(
        "  \
         curl {token} -X PUT '{url}/store/v1/records/account/first' -d '{{\"fields\": {{\"name\": \"First\"}}}}'\n  \
         curl {token} '{url}/store/v1/records/account/first'\n  \
         curl {token} -X POST '{url}/admin/database/strategy/cache-first'\n  \
         curl {token} '{url}/admin/strategies/events'\n"
    )
}

/// A key for a client, and what one does with it. Each builds on those before.
fn relayed_steps(url: &str, token: &str) -> String {
    let json = "-H 'Content-Type: application/json'";
    format!(
        "  \
         A='{url}'; T=$(cat {token})\n  \
         K=$(curl -s -H \"Authorization: Bearer $T\" \"$A/admin/api-keys\" {json} -d '{{\"name\": \"Anna\"}}' \
         | grep -o '\"apiKey\":\"[^\"]*' | cut -d'\"' -f4); echo $K\n  \
         curl -N -H \"x-api-key: $K\" \"$A/v1/messages\" {json} -d '{{\"model\": \"claude-sonnet-4-5\", \
         \"max_tokens\": 64, \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Say hi.\"}}]}}'\n  \
         curl -H \"x-api-key: $K\" \"$A/v1/usage\"\n  \
         ANTHROPIC_BASE_URL=$A ANTHROPIC_AUTH_TOKEN=$K claude -p 'Say hi.'\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: &str = "/a folder/it's/admin-token";

    #[test]
    fn the_first_steps_can_be_pasted() {
        for (addr, expected) in [
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("0.0.0.0:3000", "http://127.0.0.1:3000"),
            ("[::]:3000", "http://[::1]:3000"),
            ("10.1.2.3:3000", "http://10.1.2.3:3000"),
        ] {
            let url = url(addr.parse().unwrap());
            assert_eq!(url, expected);
            for step in first_steps(&url, &quoted(Path::new(KEPT))).lines() {
                assert!(step.starts_with("  curl ") && step.contains(&format!("'{expected}/")), "{step}");
                assert!(step.contains(r"$(cat '/a folder/it'\''s/admin-token')"), "{step}");
            }
        }
    }

    #[test]
    fn the_steps_of_a_client_use_what_those_before_have_found() {
        let steps = relayed_steps("http://127.0.0.1:3000", &quoted(Path::new(KEPT)));
        let lines: Vec<_> = steps.lines().collect();
        assert_eq!(lines[0], r"  A='http://127.0.0.1:3000'; T=$(cat '/a folder/it'\''s/admin-token')");
        assert!(lines[1].starts_with("  K=$(curl ") && lines[1].contains("$T") && lines[1].contains("$A"));
        assert!(lines[2..5].iter().all(|line| line.contains("$K") && line.contains("$A")), "{steps}");
    }
}
