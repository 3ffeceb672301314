//! What `--help` prints and the table of flags in the documents, from the one table of flags.

use std::fmt::Write;

use super::feature_gates::{GATES, Stage};
use super::table::FLAGS;
use super::value::Kind;
use super::{Effect, Flag, Section};

/// Printed to standard error for `--help` and for a command line that is not understood.
pub const USAGE: &str = "\
Usage:

  metastore [flags]
    Start a member.

  metastore --version
    Show the version, and the version of etcd that it stands for.

  metastore -h | --help
    Show this and every flag.

  metastore --config-file
    Path of a configuration file in etcd's format. Beside it, flags and environment variables are ignored.
    Durations in it are integer nanoseconds (600000000000 for 10m).
";

/// The headings of the flags, in their order.
pub const SECTIONS: [Section; 10] = [
    Section::Member,
    Section::MetaStore,
    Section::Clustering,
    Section::Security,
    Section::Auth,
    Section::Monitoring,
    Section::Logging,
    Section::Tracing,
    Section::Features,
    Section::Unsafe,
];

/// A section's heading.
pub fn heading(section: Section) -> &'static str {
    match section {
        Section::Member => "Member",
        Section::MetaStore => "MetaStore (etcd does not know these)",
        Section::Clustering => "Clustering",
        Section::Security => "Security",
        Section::Auth => "Auth",
        Section::Monitoring => "Profiling and Monitoring",
        Section::Logging => "Logging",
        Section::Tracing => "Distributed tracing",
        Section::Features => "Features",
        Section::Unsafe => "Unsafe feature",
        Section::Ignored => "Ignored",
    }
}

/// The flags under a heading.
pub fn of_section(section: Section) -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(move |flag| flag.section == section)
}

/// Printed to standard output for `--help`.
pub fn flags_text() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{}:", heading(section));
        for flag in of_section(section) {
            let _ = writeln!(
                text,
                "  --{} '{}'\n    {}",
                flag.name, flag.default, flag.doc
            );
            match flag.effect {
                Effect::Effective => {}
                Effect::NoEffect(reason) => {
                    let _ = writeln!(text, "    Accepted without effect: {reason}.");
                }
                Effect::Unsupported(reason) => {
                    let _ = writeln!(text, "    Refused unless left at its default: {reason}.");
                }
            }
            if flag.kind == Kind::Gates {
                for gate in GATES {
                    let stage = stage(gate.stage);
                    let _ = writeln!(
                        text,
                        "    {}=true|false ({stage} - default={})",
                        gate.name, gate.default
                    );
                }
            }
        }
    }
    text.push_str("\nUnsafe features may break the guarantees of the consensus protocol.\n");
    text
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Alpha => "ALPHA",
        Stage::Beta => "BETA",
    }
}

/// The tables of flags of `docs/en/configuration.md`, one under each heading.
pub fn markdown() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let _ = writeln!(
            text,
            "### {}\n\n| flag | default | meaning |\n|---|---|---|",
            heading(section)
        );
        for flag in of_section(section) {
            let default = if flag.default.is_empty() {
                String::new()
            } else {
                format!("`{}`", flag.default)
            };
            let effect = match flag.effect {
                Effect::Effective => String::new(),
                Effect::NoEffect(reason) => format!(" **Without effect**: {reason}."),
                Effect::Unsupported(reason) => {
                    format!(" **Refused** unless left at its default: {reason}.")
                }
            };
            let _ = writeln!(
                text,
                "| `--{}` | {default} | {}{effect} |",
                flag.name, flag.doc
            );
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "### Feature gates\n\n| gate | stage | default | here |\n|---|---|---|---|"
    );
    for gate in GATES {
        let here = gate.no_effect.map_or("effective".to_owned(), |reason| {
            format!("without effect: {reason}")
        });
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {here} |",
            gate.name,
            stage(gate.stage),
            gate.default
        );
    }
    text
}

/// The list of flags without effect of `docs/en/limitations.md`: all that change nothing, each with the reason.
pub fn markdown_without_effect() -> String {
    let mut text = String::from("| flag | why |\n|---|---|\n");
    for flag in FLAGS.iter().filter(|flag| flag.section != Section::Ignored) {
        if let Effect::NoEffect(reason) = flag.effect {
            let _ = writeln!(text, "| `--{}` | {reason} |", flag.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/en/configuration.md");
    const CHINESE: &str = include_str!("../../../docs/zh/configuration.md");
    const LIMITATIONS: &str = include_str!("../../../docs/en/limitations.md");
    const CHINESE_LIMITATIONS: &str = include_str!("../../../docs/zh/limitations.md");

    #[test]
    fn help_shows_every_flag_but_the_ignored() {
        let text = flags_text();
        for flag in FLAGS {
            let shown = text.contains(&format!("\n  --{} '", flag.name));
            assert_eq!(shown, flag.section != Section::Ignored, "{}", flag.name);
        }
    }

    /// Compares what stands between two marks of a document; `METASTORE_UPDATE_DOCS=1` writes it there instead.
    fn compare(name: &str, document: &str, marks: (&str, &str), wanted: &str) {
        let (start, end) = (format!("{}\n\n", marks.0), format!("\n{}", marks.1));
        let (before, rest) = document.split_once(&start).expect("the mark before");
        let (found, after) = rest.split_once(&end).expect("the mark behind");
        if std::env::var_os("METASTORE_UPDATE_DOCS").is_some() {
            let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, format!("{before}{start}{wanted}{end}{after}"))
                .expect("writing the document");
            return;
        }
        assert!(
            found == wanted,
            "{name}: run this test with METASTORE_UPDATE_DOCS=1"
        );
    }

    #[test]
    fn the_documents_hold_the_tables_of_flags() {
        let marks = (
            "<!-- flags: generated from server/src/flag/table.rs -->",
            "<!-- end of flags -->",
        );
        compare("en/configuration.md", DOCUMENT, marks, &markdown());
        let wanted = markdown_without_effect();
        compare("en/limitations.md", LIMITATIONS, marks, &wanted);
    }

    #[test]
    fn the_chinese_list_of_flags_without_effect_is_the_same() {
        let names = |text: &'static str| -> Vec<&str> {
            text.lines()
                .filter_map(|line| line.strip_prefix("| `--")?.split('`').next())
                .collect()
        };
        let idle: Vec<_> = FLAGS
            .iter()
            .filter(|flag| flag.section != Section::Ignored)
            .filter(|flag| matches!(flag.effect, Effect::NoEffect(_)))
            .map(|flag| flag.name)
            .collect();
        assert_eq!(names(LIMITATIONS), idle);
        assert_eq!(names(CHINESE_LIMITATIONS), idle);
    }

    #[test]
    fn the_chinese_document_names_every_flag_with_its_default_and_effect() {
        for flag in FLAGS.iter().filter(|flag| flag.section != Section::Ignored) {
            let name = format!("| `--{}` | ", flag.name);
            let line = CHINESE
                .lines()
                .find(|line| line.starts_with(&name))
                .unwrap_or_else(|| panic!("{name} is missing"));
            let default = if flag.default.is_empty() {
                String::new()
            } else {
                format!("`{}`", flag.default)
            };
            assert!(
                line.starts_with(&format!("{name}{default} | ")),
                "the default in: {line}"
            );
            assert_eq!(
                line.contains("**无效果**"),
                matches!(flag.effect, Effect::NoEffect(_)),
                "{line}"
            );
            assert_eq!(
                line.contains("**拒绝**"),
                matches!(flag.effect, Effect::Unsupported(_)),
                "{line}"
            );
        }
        for gate in GATES {
            assert!(
                CHINESE.contains(&format!("| `{}` | ", gate.name)),
                "{} is missing",
                gate.name
            );
        }
    }
}
