//! gRPC's own health service, `grpc.health.v1`.
//!
//! The port is open only while the member serves, so it has one answer.

use bytes::Bytes;
use metastore_proto::healthpb::health_check_response::ServingStatus;
use metastore_proto::healthpb::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};

use crate::encoded::Encoded;
use crate::grpc::{Code, Inbox, Outbox, decode};
use crate::status::Refusal;

/// The name that stands for the server as a whole, and the only one etcd knows.
const WHOLE_SERVER: &str = "";

const UNKNOWN_SERVICE: Refusal = Refusal::new(Code::NotFound, "unknown service");

/// Health.Check.
pub(crate) fn check(message: Bytes) -> Result<Encoded, Refusal> {
    let request: HealthCheckRequest = decode(message)?;
    if request.service != WHOLE_SERVER {
        return Err(UNKNOWN_SERVICE);
    }
    Ok(Encoded::of(&answer(ServingStatus::Serving)))
}

/// Health.List.
pub(crate) fn list() -> Encoded {
    let serving = answer(ServingStatus::Serving);
    Encoded::of(&HealthListResponse {
        statuses: [(WHOLE_SERVER.to_owned(), serving)].into(),
    })
}

/// Health.Watch: tells the state once, since it does not change.
pub(crate) async fn watch(inbox: Inbox, mut outbox: Outbox) -> Result<(), Refusal> {
    let request: HealthCheckRequest = decode(inbox.only().await?)?;
    let known = request.service == WHOLE_SERVER;
    let state = if known {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    };
    outbox.send(Encoded::of(&answer(state))).await;
    std::future::pending().await
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}
