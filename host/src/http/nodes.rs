//! The nodes that share this one's stores, and how they stand to a switch.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::App;
use super::answer::json;
use super::error::{Problem, Result};
use super::openapi::shapes::Nodes;
use crate::cluster::node::Node;
use crate::strategy::choice::Choice;

/// How long the answer to a switch waits for the other nodes.
const SETTLING: Duration = Duration::from_secs(1);

/// A report, and how each node stands to what it reports.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OnNodes<T> {
    #[serde(flatten)]
    pub(super) report: T,
    pub(super) nodes: Vec<Node>,
}

/// Every node, and what is in force there.
#[utoipa::path(
    get,
    path = "/admin/nodes",
    tag = "Strategies",
    responses((status = 200, description = "Every node that was heard of, and what is in force there", body = Nodes)),
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    let (node, nodes) = (&app.node, app.cluster.nodes());
    json(StatusCode::OK, &json!({ "node": node, "clock": app.cluster.clock(), "nodes": nodes }), 1_024)
}

/// Waits for the other nodes to have this choice in force.
///
/// # Errors
/// `generation-mismatch` when another admin chose something else at the same time, and that prevailed.
pub(super) async fn settled(app: &App, choice: &Choice) -> Result<Vec<Node>> {
    let nodes = app.cluster.settle(SETTLING).await;
    let prevails = app.strategies.choice();
    if prevails != *choice {
        let detail = format!(
            "{} was chosen at the same time, here or on another node, and prevails over {}; look again and repeat",
            prevails.name, choice.name
        );
        return Err(Problem::new(StatusCode::CONFLICT, "generation-mismatch", detail));
    }
    Ok(nodes)
}
