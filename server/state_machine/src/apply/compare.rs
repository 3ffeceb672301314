//! The compares of a transaction (etcd: `applyCompares` in `server/etcdserver/txn/txn.go`).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::ControlFlow;

use metastore_mvcc as mvcc;
use metastore_mvcc::{Meta, Txn};
use metastore_proto::etcdserverpb::Compare;
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// What a compare looks at in a key. The default stands for a key that does not exist.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    pub(crate) version: i64,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) lease: i64,
    /// Only filled for a compare of values.
    pub(crate) value: Cow<'a, [u8]>,
}

impl Found<'_> {
    /// What the index knows of a key: all but the value.
    fn of(meta: &Meta) -> Self {
        Self {
            version: meta.version,
            create_revision: meta.create_revision,
            mod_revision: meta.mod_revision.main,
            lease: meta.lease,
            value: Cow::Borrowed(&[]),
        }
    }
}

/// Who can show the keys of a range to a compare, the values only `with_value`, until it breaks.
pub(crate) trait Keys {
    fn each(
        &self,
        compare: &Compare,
        with_value: bool,
        visit: &mut dyn FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> Result<(), mvcc::Error>;
}

impl Keys for Txn<'_> {
    fn each(
        &self,
        compare: &Compare,
        with_value: bool,
        visit: &mut dyn FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> Result<(), mvcc::Error> {
        self.note_range();
        if compare.range_end.is_empty() && !with_value {
            if let Some(meta) = self.meta(&compare.key) {
                let _ = visit(&Found::of(&meta));
            }
            return Ok(());
        }
        let mut failed = Ok(());
        self.visit(&compare.key, &compare.range_end, &mut |key| {
            let mut found = Found::of(&key.meta);
            if with_value {
                match key.value() {
                    Ok(value) => found.value = Cow::Owned(value),
                    Err(error) => {
                        failed = Err(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            visit(&found)
        })?;
        failed
    }
}

/// Whether all compares hold; every key of a range has to satisfy its compare.
pub(crate) fn all_hold(keys: &impl Keys, compares: &[Compare]) -> Result<bool, mvcc::Error> {
    for compare in compares {
        if !holds(keys, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(keys: &impl Keys, compare: &Compare) -> Result<bool, mvcc::Error> {
    let of_value = compare.target == CompareTarget::Value as i32;
    let mut none = true;
    let mut all = true;
    keys.each(compare, of_value, &mut |found| {
        none = false;
        all = satisfies(compare, found);
        if all {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    if none {
        // A missing value is not an empty one; the other targets are zero where there is no key.
        return Ok(!of_value && satisfies(compare, &Found::default()));
    }
    Ok(all)
}

/// A number that is not of the compare's target counts as not given: zero, or empty.
fn satisfies(compare: &Compare, found: &Found<'_>) -> bool {
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => found.version.cmp(&match union {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => found.create_revision.cmp(&match union {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => found.mod_revision.cmp(&match union {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => found.lease.cmp(&match union {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => (*found.value).cmp(match union {
            Some(TargetUnion::Value(value)) => value,
            _ => &[],
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
