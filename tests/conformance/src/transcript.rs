//! What was asked and what came back, and where two such records part.

use std::fmt;

const CONTEXT: usize = 160;
const SHOWN: usize = 5;

/// One exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was done: method and request.
    pub request: String,
    /// What came back, under the mask: `ok {...}` or the code and text of an error.
    pub reply: String,
}

/// The exchanges of one case with one target, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// The exchanges.
    pub entries: Vec<Entry>,
}

/// Where two transcripts part.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The number of the exchange, from 1.
    pub step: usize,
    /// The request of the reference.
    pub request: String,
    /// The request of the other target where it differs.
    pub other_request: Option<String>,
    /// What the reference answered.
    pub expected: String,
    /// What the other target answered.
    pub got: String,
}

impl Transcript {
    /// Adds an exchange.
    pub fn record(&mut self, request: impl Into<String>, reply: impl Into<String>) {
        self.entries.push(Entry {
            request: request.into(),
            reply: reply.into(),
        });
    }

    /// Where `other` differs from this one, the reference.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let nothing = Entry {
            request: "(nothing more)".into(),
            reply: "(nothing more)".into(),
        };
        let steps = self.entries.len().max(other.entries.len());
        (0..steps)
            .filter_map(|index| {
                let expected = self.entries.get(index).unwrap_or(&nothing);
                let got = other.entries.get(index).unwrap_or(&nothing);
                (expected != got).then(|| Difference {
                    step: index + 1,
                    request: expected.request.clone(),
                    other_request: (expected.request != got.request).then(|| got.request.clone()),
                    expected: expected.reply.clone(),
                    got: got.reply.clone(),
                })
            })
            .collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}: {}", self.step, clip(&self.request, 0))?;
        if let Some(other) = &self.other_request {
            writeln!(f, "  where the other one was asked: {}", clip(other, 0))?;
        }
        let part = self
            .expected
            .bytes()
            .zip(self.got.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        writeln!(f, "  expected: {}", clip(&self.expected, part))?;
        write!(f, "  got:      {}", clip(&self.got, part))
    }
}

/// The first few differences as text, and how many more there are.
pub(crate) fn summary(differences: &[Difference]) -> String {
    let mut text: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    if differences.len() > SHOWN {
        text.push(format!(
            "... and {} more steps differ",
            differences.len() - SHOWN
        ));
    }
    text.join("\n")
}

/// Long texts are shown around the place where they part.
fn clip(text: &str, part: usize) -> String {
    if text.len() <= 4 * CONTEXT {
        return text.to_owned();
    }
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let from = boundary(part.saturating_sub(CONTEXT).min(text.len()));
    let to = boundary((part + 2 * CONTEXT).min(text.len()));
    let before = if from > 0 { "..." } else { "" };
    let after = if to < text.len() { "..." } else { "" };
    format!("{before}{}{after}", &text[from..to])
}
