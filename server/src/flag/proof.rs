//! Which test proves that a flag's value changes something: one line for each flag with an effect.
//!
//! A flag cannot be added to the table as effective without a line here, and a line is worth nothing unless its
//! test exists and names the flag, not in a comment.

/// Flag, file of the test (from the root of the repository), name of the test.
type Proof = (&'static str, &'static str, &'static str);

const FLAGS: &str = "tests/conformance/tests/suite/flags.rs";
const TLS: &str = "tests/conformance/tests/suite/tls.rs";
const DISK: &str = "server/tests/flags/disk.rs";
const OUR_TLS: &str = "server/tests/flags/tls.rs";
const COMMAND_LINE: &str = "server/tests/command_line.rs";
const LOG: &str = "server/src/logging/options.rs";

#[rustfmt::skip]
const PROOFS: &[Proof] = &[
    ("name", FLAGS, "a_member_tells_the_name_and_the_client_urls_of_its_flags"),
    ("data-dir", FLAGS, "the_ids_follow_the_peer_urls_and_the_token"),
    ("wal-dir", FLAGS, "the_log_has_a_folder_of_its_own_where_the_flag_says"),
    ("heartbeat-interval", FLAGS, "an_election_is_a_whole_number_of_heartbeats"),
    ("election-timeout", "tests/conformance/tests/suite/lease.rs", "the_shortest_time_follows_the_election_timeout"),
    ("listen-peer-urls", FLAGS, "a_member_serves_every_url_that_it_listens_on"),
    ("listen-client-urls", FLAGS, "a_member_serves_every_url_that_it_listens_on"),
    ("listen-client-http-urls", FLAGS, "pages_may_have_a_port_of_their_own"),
    ("memory-mlock", DISK, "memory_is_locked_where_the_flag_says_so"),
    ("quota-backend-bytes", "tests/conformance/tests/suite/quota.rs", "the_tiny_quota_of_operators_tests_raises_the_alarm"),
    ("max-txn-ops", "tests/conformance/tests/suite/txn_checks.rs", "the_bound_on_operations_follows_its_flag"),
    ("max-request-bytes", "tests/conformance/tests/suite/requests.rs", "the_limit_follows_its_flag"),
    ("max-concurrent-streams", FLAGS, "a_connection_carries_only_so_many_streams"),
    ("grpc-keepalive-interval", FLAGS, "a_silent_connection_is_asked_and_closed_after_the_times_set"),
    ("grpc-keepalive-timeout", FLAGS, "a_silent_connection_is_asked_and_closed_after_the_times_set"),
    ("socket-reuse-port", FLAGS, "a_port_may_be_shared_where_the_flag_says_so"),
    ("raft-read-timeout", "server/tests/flags/cluster.rs", "a_silent_member_is_given_up_after_raft_read_timeout"),
    ("raft-write-timeout", "server/src/serve.rs", "what_another_member_does_not_take_is_given_up_after_the_time_set"),
    ("feature-gates", "server/src/serve.rs", "the_gates_decide_about_checkpoints_and_the_address_to_dial_from"),
    ("storage-engine", DISK, "a_data_folder_keeps_the_engine_it_was_made_with"),
    ("value-cache-bytes", "server/src/serve.rs", "the_store_has_the_bounds_of_the_flags"),
    ("engine-memory-bytes", DISK, "the_memory_of_the_engine_is_what_the_flag_says"),
    ("raft-log-retention-bytes", DISK, "the_log_is_shortened_to_the_bytes_set"),
    ("client-cert-allowed-cn", OUR_TLS, "a_client_must_have_one_of_the_common_names_allowed"),
    ("initial-advertise-peer-urls", FLAGS, "the_ids_follow_the_peer_urls_and_the_token"),
    ("initial-cluster", FLAGS, "the_ids_follow_the_peer_urls_and_the_token"),
    ("initial-cluster-state", FLAGS, "a_member_joins_only_a_cluster_that_there_is_and_ignores_that_where_it_has_data"),
    ("initial-cluster-token", FLAGS, "the_ids_follow_the_peer_urls_and_the_token"),
    ("advertise-client-urls", FLAGS, "a_member_tells_the_name_and_the_client_urls_of_its_flags"),
    ("initial-election-tick-advance", "server/tests/flags/cluster.rs", "a_cluster_that_starts_again_waits_for_an_election_only_without_the_advance"),
    ("pre-vote", "server/tests/flags/cluster.rs", "a_follower_that_is_cut_off_raises_its_term_only_without_pre_vote"),
    ("auto-compaction-retention", FLAGS, "history_is_compacted_automatically_after_the_retention"),
    ("auto-compaction-mode", FLAGS, "in_mode_revision_the_retention_is_a_number_of_revisions"),
    ("cert-file", TLS, "each_certificate_flag_counts"),
    ("key-file", TLS, "each_certificate_flag_counts"),
    ("client-cert-auth", TLS, "each_certificate_flag_counts"),
    ("trusted-ca-file", TLS, "each_certificate_flag_counts"),
    ("client-crl-file", TLS, "a_revoked_client_is_refused_and_the_list_is_read_again"),
    ("client-cert-allowed-hostname", TLS, "client_certificates_are_limited_to_a_host_name"),
    ("auto-tls", TLS, "a_member_makes_its_own_certificate"),
    ("self-signed-cert-validity", TLS, "a_member_makes_its_own_certificate"),
    ("cipher-suites", TLS, "cipher_suites_are_limited_to_those_named"),
    ("tls-min-version", TLS, "versions_of_tls_can_be_refused_from_both_sides"),
    ("tls-max-version", TLS, "versions_of_tls_can_be_refused_from_both_sides"),
    ("peer-cert-file", TLS, "members_need_certificates_of_the_authority"),
    ("peer-key-file", TLS, "members_need_certificates_of_the_authority"),
    ("peer-client-cert-auth", TLS, "members_need_certificates_of_the_authority"),
    ("peer-trusted-ca-file", TLS, "members_need_certificates_of_the_authority"),
    ("peer-client-cert-file", TLS, "members_may_show_another_certificate_than_that_of_their_port"),
    ("peer-client-key-file", TLS, "members_may_show_another_certificate_than_that_of_their_port"),
    ("peer-cert-allowed-cn", TLS, "a_member_must_have_one_of_the_common_names_allowed"),
    ("peer-cert-allowed-hostname", TLS, "a_member_must_have_one_of_the_host_names_allowed"),
    ("peer-auto-tls", OUR_TLS, "three_members_make_their_own_certificates"),
    ("peer-crl-file", TLS, "a_revoked_member_is_refused_and_the_list_is_read_again"),
    ("peer-skip-client-san-verification", TLS, "names_of_a_member_need_not_fit_its_address_where_that_is_skipped"),
    ("cors", FLAGS, "origins_and_hosts_are_those_allowed"),
    ("host-whitelist", FLAGS, "origins_and_hosts_are_those_allowed"),
    ("metrics", FLAGS, "extensive_metrics_time_each_method"),
    ("listen-metrics-urls", "tests/conformance/tests/suite/http.rs", "the_metrics_listener_serves_metrics_and_health"),
    ("logger", LOG, "refusals_have_etcds_words"),
    ("log-outputs", COMMAND_LINE, "lines_go_where_the_flags_say"),
    ("log-level", COMMAND_LINE, "lines_go_where_the_flags_say"),
    ("log-format", COMMAND_LINE, "lines_have_the_form_of_etcds"),
    ("enable-log-rotation", COMMAND_LINE, "the_file_of_the_log_is_rotated"),
    ("log-rotation-config-json", COMMAND_LINE, "the_file_of_the_log_is_rotated"),
    ("warning-unary-request-duration", FLAGS, "slow_requests_are_logged_from_the_durations_set_on"),
    ("warning-apply-duration", FLAGS, "slow_requests_are_logged_from_the_durations_set_on"),
    ("compaction-batch-limit", FLAGS, "compaction_goes_in_steps_of_the_size_and_with_the_pause_set"),
    ("compaction-sleep-interval", FLAGS, "compaction_goes_in_steps_of_the_size_and_with_the_pause_set"),
    ("watch-progress-notify-interval", "tests/conformance/tests/suite/watch_history.rs", "progress_is_notified_at_the_interval_set"),
    ("unsafe-no-fsync", "tests/cluster/tests/suite/fsync.rs", "nothing_is_synced_where_the_flag_says_so"),
    ("config-file", COMMAND_LINE, "a_configuration_file_goes_before_flags_and_environment"),
    ("version", COMMAND_LINE, "the_version_is_told_beside_that_of_etcd"),
];

/// The text of a test without its comments, if the file has it.
fn text_of(file: &str, test: &str) -> Option<String> {
    let start = file.find(&format!("fn {test}("))?;
    let before = &file[..start];
    let attribute = before.rfind("#[")?;
    // A function ends with a brace that stands as far left as it begins.
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let indent = &before[line..][..before[line..].len() - before[line..].trim_start().len()];
    let end = file[start..].find(&format!("\n{indent}}}\n"))?;
    let code = file[start..start + end].lines();
    let code = code.filter(|line| !line.trim_start().starts_with("//"));
    before[attribute..]
        .contains("test")
        .then(|| code.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::flag::Effect;
    use crate::flag::table::FLAGS as TABLE;

    #[test]
    fn every_flag_with_an_effect_has_a_test_and_no_other() {
        let effective: BTreeSet<&str> = TABLE
            .iter()
            .filter(|flag| flag.effect == Effect::Effective)
            .map(|flag| flag.name)
            .collect();
        let proved: BTreeSet<&str> = PROOFS.iter().map(|(flag, ..)| *flag).collect();
        let unproved: Vec<_> = effective.difference(&proved).collect();
        assert!(unproved.is_empty(), "flags without a test: {unproved:?}");
        let idle: Vec<_> = proved.difference(&effective).collect();
        assert!(idle.is_empty(), "tests of flags without effect: {idle:?}");
    }

    #[test]
    fn every_such_test_exists_and_names_its_flag() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut wrong = Vec::new();
        for (flag, path, test) in PROOFS {
            let file = std::fs::read_to_string(root.join(path)).expect("the file of a test");
            match text_of(&file, test) {
                None => wrong.push(format!("{path} has no test {test}")),
                Some(text) if !names(&text, flag) => {
                    wrong.push(format!("{test} in {path} does not name --{flag}"));
                }
                Some(_) => {}
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_comment_names_nothing() {
        let file = "\n\n/// `--a`.\n#[test]\nfn one() {\n    // --b\n    set(\"--c\");\n}\n";
        let text = text_of(file, "one").expect("a test");
        assert!(names(&text, "c"), "{text}");
        assert!(!names(&text, "a") && !names(&text, "b"), "{text}");
        assert_eq!(text_of(file, "two"), None);
    }

    /// Whether `--flag` stands in `text`, and not only as the beginning of another.
    fn names(text: &str, flag: &str) -> bool {
        let name = format!("--{flag}");
        text.match_indices(&name).any(|(at, _)| {
            let next = text[at + name.len()..].chars().next();
            next.is_none_or(|next| next != '-' && !next.is_ascii_alphanumeric())
        })
    }
}
