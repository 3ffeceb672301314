//! The program as a process: what it prints, how it exits. Every text is one of etcd 3.7.3 for the same arguments.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

struct Run {
    folder: TempDir,
    command: Command,
}

impl Run {
    /// In a folder of its own, with an empty environment: not even `HOME`.
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_metastore"));
        command
            .args(arguments)
            .env_clear()
            .current_dir(folder.path());
        Self { folder, command }
    }

    fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn with_file(self, name: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(name), text).expect("written");
        self
    }

    fn end(mut self) -> Ended {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command.output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let folder = fs::read_dir(self.folder.path())
            .expect("the folder")
            .count();
        Ended {
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
            files_left: folder,
        }
    }
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    files_left: usize,
}

impl Ended {
    /// Each line of the log.
    fn lines(&self) -> Vec<serde_json::Value> {
        self.stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    }

    /// The field `error` of the line with this message.
    fn error_of(&self, message: &str) -> String {
        let lines = self.lines();
        let line = lines
            .iter()
            .find(|line| line["msg"] == message)
            .unwrap_or_else(|| panic!("{}", self.stderr));
        line["error"].as_str().expect("an error").to_owned()
    }
}

#[test]
fn the_version_is_told_beside_that_of_etcd() {
    for arguments in [
        &["--version"][..],
        &["-version"],
        &["--version=true"],
        &["--name=a", "--version"],
    ] {
        let ended = Run::new(arguments).end();
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
        assert!(
            ended
                .stdout
                .lines()
                .any(|line| line == "etcd Version: 3.7.3"),
            "{}",
            ended.stdout
        );
        assert!(ended.stdout.contains(concat!(
            "\nMetaStore Version: ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )));
    }
}

#[test]
fn help_goes_to_standard_output_and_exits_with_0() {
    for argument in ["--help", "-help", "-h", "--h"] {
        let ended = Run::new(&[argument]).end();
        assert_eq!(ended.code, Some(0), "{argument}");
        assert!(ended.stderr.starts_with("Usage:\n"), "{}", ended.stderr);
        assert!(
            ended.stdout.contains("\nMember:\n  --name 'default'\n"),
            "{}",
            ended.stdout
        );
    }
}

#[test]
fn a_command_line_that_is_not_understood_exits_with_2() {
    for (arguments, first) in [
        (&["--foo"][..], "flag provided but not defined: -foo"),
        (
            &["--experimental-initial-corrupt-check"],
            "flag provided but not defined: -experimental-initial-corrupt-check",
        ),
        (&["--name"], "flag needs an argument: -name"),
        (
            &["--pre-vote=maybe"],
            "invalid boolean value \"maybe\" for -pre-vote: parse error",
        ),
        (
            &["--version", "--heartbeat-interval=x"],
            "invalid value \"x\" for flag -heartbeat-interval: parse error",
        ),
        (&["---x"], "bad flag syntax: ---x"),
    ] {
        let ended = Run::new(arguments).end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        let mut lines = ended.stderr.lines();
        assert_eq!(
            (lines.next(), lines.next()),
            (Some(first), Some("Usage:")),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_configuration_that_is_refused_is_logged_and_exits_with_1() {
    let listen = "--listen-client-urls=http://127.0.0.1:2379";
    let told = "--advertise-client-urls=http://127.0.0.1:2379";
    for (arguments, error) in [
        (&["foo"][..], "\"foo\" is not a valid flag"),
        (&["-"], "\"-\" is not a valid flag"),
        (&["--version", "foo"], "\"foo\" is not a valid flag"),
        (
            &[listen],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--logger=capnslog"],
            "--logger=capnslog is removed in v3.5",
        ),
        (
            &["--log-format=foo"],
            "unknown log format: foo, supported values json, console",
        ),
        (
            &["--log-outputs="],
            "open sink \"\": open : no such file or directory",
        ),
        (
            &["--listen-peer-urls=http://foo:22380"],
            "expected IP in URL for binding (http://foo:22380)",
        ),
        (
            &["--config-file=nope.yaml"],
            "open nope.yaml: no such file or directory",
        ),
        (
            &["--cipher-suites=foo", listen, told],
            "unexpected TLS cipher suite \"foo\"",
        ),
    ] {
        let ended = Run::new(arguments).end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(1), ""),
            "{arguments:?}"
        );
        assert_eq!(
            ended.error_of("failed to verify flags"),
            error,
            "{arguments:?}"
        );
        assert_eq!(ended.files_left, 0, "{arguments:?}");
    }
}

#[test]
fn lines_have_the_form_of_etcds() {
    let ended = Run::new(&["foo"]).end();
    let first = ended.stderr.lines().next().expect("a line");
    assert!(
        first.starts_with("{\"level\":\"info\",\"ts\":\"20"),
        "{first}"
    );
    assert!(first.contains("\",\"caller\":\"server/main.rs:"), "{first}");
    assert!(
        first.contains("\",\"msg\":\"Running: \",\"args\":[\""),
        "{first}"
    );
    let line = &ended.lines()[0];
    let time = line["ts"].as_str().expect("a time");
    assert_eq!((time.len(), &time[10..11], &time[26..]), (27, "T", "Z"));
    let console = Run::new(&["--log-format=console", "--name=", "--heartbeat-interval=0"]).end();
    assert!(
        console.stderr.contains("Z\twarn\tserver/main.rs:")
            && console.stderr.contains("\tfailed to verify flags\t{\"error\": \"--heartbeat-interval must be >0 (set to 0ms)\"}"),
        "{}",
        console.stderr
    );
}

#[test]
fn the_environment_sets_flags_and_a_conflict_ends_the_start() {
    let wrong = Run::new(&[])
        .with_variable("ETCD_HEARTBEAT_INTERVAL", "x")
        .end();
    assert_eq!(wrong.code, Some(1));
    assert_eq!(
        wrong.error_of("failed to verify flags"),
        "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error"
    );
    let set = Run::new(&[])
        .with_variable("ETCD_HEARTBEAT_INTERVAL", "0")
        .with_variable("ETCD_FOO", "1")
        .end();
    assert_eq!(
        set.error_of("failed to verify flags"),
        "--heartbeat-interval must be >0 (set to 0ms)"
    );
    assert!(set.lines().iter().any(|line| {
        line["level"] == "warn"
            && line["msg"] == "unrecognized environment variable"
            && line["environment-variable"] == "ETCD_FOO=1"
    }));
    let conflict = Run::new(&["--name=a"])
        .with_variable("ETCD_NAME", "b")
        .end();
    let last = conflict.lines().pop().expect("a line");
    assert_eq!(
        (conflict.code, &last["level"], &last["environment-variable"]),
        (Some(1), &"fatal".into(), &"ETCD_NAME".into())
    );
}

#[test]
fn a_configuration_file_goes_before_flags_and_environment() {
    let ended = Run::new(&["--config-file=c.yaml", "--heartbeat-interval=100"])
        .with_variable("ETCD_HEARTBEAT_INTERVAL", "200")
        .with_file("c.yaml", "heartbeat-interval: 0\n")
        .end();
    assert_eq!(
        ended.error_of("failed to verify flags"),
        "--heartbeat-interval must be >0 (set to 0ms)"
    );
    let named = Run::new(&[])
        .with_variable("ETCD_CONFIG_FILE", "c.yaml")
        .with_file("c.yaml", "election-timeout: 1\n")
        .end();
    assert_eq!(
        named.error_of("failed to verify flags"),
        "--election-timeout[1ms] should be at least as 5 times as --heartbeat-interval[100ms]"
    );
    let url = Run::new(&["--config-file=c.yaml"])
        .with_file("c.yaml", "listen-peer-urls: foo\n")
        .end();
    assert_eq!(
        (url.code, url.stderr.as_str()),
        (
            Some(1),
            "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo\n"
        )
    );
}

#[test]
fn lines_go_where_the_flags_say() {
    let mut run = Run::new(&[
        "--log-outputs=a.log,stdout",
        "--log-level=warn",
        "--heartbeat-interval=0",
    ]);
    let output = run.command.output().expect("the program runs");
    let file = fs::read_to_string(Path::new(run.folder.path()).join("a.log")).expect("the log");
    assert_eq!(
        (file.as_bytes(), output.stderr.as_slice()),
        (output.stdout.as_slice(), &b""[..])
    );
    assert!(
        file.contains("failed to verify flags") && !file.contains("\"level\":\"info\""),
        "{file}"
    );
}

#[test]
fn flags_without_effect_are_told_in_one_warning() {
    let ended = Run::new(&[
        "--max-wals=9",
        "--snapshot=1",
        "--feature-gates=StopGRPCServiceOnDefrag=true",
        "--heartbeat-interval=0",
    ])
    .with_variable("ETCD_BACKEND_BATCH_LIMIT", "5")
    .end();
    let lines = ended.lines();
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line["msg"] == "flags that have no effect in MetaStore were set")
        .collect();
    let [told] = told[..] else {
        panic!("{}", ended.stderr)
    };
    let flags = told["flags"].to_string();
    for name in [
        "--max-wals: ",
        "--snapshot: ",
        "--backend-batch-limit: ",
        "StopGRPCServiceOnDefrag: ",
    ] {
        assert!(flags.contains(name), "{flags}");
    }
    assert!(!flags.contains("heartbeat"), "{flags}");
}

#[test]
fn the_file_of_the_log_is_rotated() {
    let rotated = |flags: &[&str]| {
        let mut arguments = vec!["--log-outputs=a.log", "--heartbeat-interval=0"];
        arguments.extend(flags);
        let filled = "x".repeat(3 << 20);
        let ended = Run::new(&arguments).with_file("a.log", &filled).end();
        assert_eq!(ended.code, Some(1), "{flags:?}: {}", ended.stderr);
        ended.files_left
    };
    let small = "--log-rotation-config-json={\"maxsize\":1}";
    assert_eq!(rotated(&[small]), 1, "only with the flag");
    assert_eq!(rotated(&["--enable-log-rotation", small]), 2);
    let large = "--log-rotation-config-json={\"maxsize\":5}";
    assert_eq!(rotated(&["--enable-log-rotation", large]), 1);
}
