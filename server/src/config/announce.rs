//! The line that tells with what a member starts, as etcd's `print` in `server/embed/etcd.go`.

use super::{Config, Listen};
use crate::duration::GoDuration;
use crate::logging::Note;
use crate::url::Url;
use crate::version;

impl Config {
    /// Logs the configuration. `member_initialized`: whether there is data to start from.
    pub fn announce(&self, member_initialized: bool) {
        let Listen {
            peer,
            client,
            client_http,
            metrics,
            ..
        } = &self.listen;
        let quota = self
            .limits
            .quota_backend_bytes
            .map_or(-1, |quota| i64::try_from(quota).unwrap_or(i64::MAX));
        Note::info("starting a MetaStore member")
            .with("metastore-version", version::METASTORE)
            .with("etcd-version", version::ETCD)
            .with("member-initialized", member_initialized)
            .with("name", self.name.as_str())
            .with("data-dir", self.data.directory.display().to_string())
            .with(
                "wal-dir",
                self.data
                    .log_directory
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            )
            .with("storage-engine", self.data.engine.name())
            .with("fsync", self.data.fsync)
            .with("force-new-cluster", self.cluster.force_new)
            .with("heartbeat-interval", text(self.raft.heartbeat))
            .with("election-timeout", text(self.raft.election))
            .with("initial-election-tick-advance", self.raft.early_election)
            .with("pre-vote", self.raft.pre_vote)
            .with("initial-advertise-peer-urls", texts(&self.advertise.peer))
            .with("listen-peer-urls", texts(peer))
            .with("advertise-client-urls", texts(&self.advertise.client))
            .with("listen-client-urls", texts(client))
            .with("listen-client-http-urls", texts(client_http))
            .with("listen-metrics-urls", texts(metrics))
            .with("initial-cluster", self.cluster.initial.as_str())
            .with("initial-cluster-token", self.cluster.token.as_str())
            .with("quota-backend-bytes", quota)
            .with("max-request-bytes", self.limits.max_request_bytes)
            .with("max-concurrent-streams", self.limits.max_concurrent_streams)
            .with("feature-gates", self.features.to_string())
            .log();
    }
}

fn text(duration: std::time::Duration) -> String {
    GoDuration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)).to_string()
}

fn texts(urls: &[Url]) -> Vec<&str> {
    urls.iter().map(Url::as_str).collect()
}
