//! Checks of the requests on keys that are not transactions.

use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::status::{self, Refusal};

/// Refuses a range without a key or with an unknown sort (`checkRangeRequest`).
pub fn range(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(status::INVALID_SORT_OPTION);
    }
    Ok(())
}

/// As [`range`], and refuses what cannot be answered in parts (`checkRangeStreamRequest`).
pub fn range_stream(request: &RangeRequest) -> Result<(), Refusal> {
    range(request)?;
    let unsorted = request.sort_order == SortOrder::None as i32;
    let by_key = request.sort_target == SortTarget::Key as i32
        && request.sort_order == SortOrder::Ascend as i32;
    if !unsorted && !by_key {
        return Err(status::RANGE_STREAM_SORT);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|&bound| bound != 0) {
        return Err(status::RANGE_STREAM_FILTERS);
    }
    Ok(())
}

/// Refuses a put without a key, and one that gives what it asks to leave alone (`checkPutRequest`).
pub fn put(request: &PutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(status::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(status::LEASE_PROVIDED);
    }
    Ok(())
}

/// Refuses a delete without a key (`checkDeleteRequest`).
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn key() -> Bytes {
        Bytes::from_static(b"k")
    }

    #[test]
    fn a_key_is_required() {
        assert_eq!(range(&RangeRequest::default()), Err(status::EMPTY_KEY));
        assert_eq!(put(&PutRequest::default()), Err(status::EMPTY_KEY));
        assert_eq!(
            delete_range(&DeleteRangeRequest::default()),
            Err(status::EMPTY_KEY)
        );
    }

    #[test]
    fn an_unknown_sort_is_refused_and_a_known_one_is_not() {
        for (order, target, accepted) in [
            (0, 0, true),
            (2, 4, true),
            (3, 0, false),
            (0, 5, false),
            (-1, 0, false),
        ] {
            let request = RangeRequest {
                key: key(),
                sort_order: order,
                sort_target: target,
                ..Default::default()
            };
            let expected = if accepted {
                Ok(())
            } else {
                Err(status::INVALID_SORT_OPTION)
            };
            assert_eq!(range(&request), expected, "order {order}, target {target}");
        }
    }

    #[test]
    fn a_range_stream_comes_in_key_order_and_unfiltered() {
        let plain = RangeRequest {
            key: key(),
            ..Default::default()
        };
        assert_eq!(range_stream(&plain), Ok(()));
        let ascending = RangeRequest {
            sort_order: SortOrder::Ascend as i32,
            ..plain.clone()
        };
        assert_eq!(range_stream(&ascending), Ok(()));
        let descending = RangeRequest {
            sort_order: SortOrder::Descend as i32,
            ..plain.clone()
        };
        assert_eq!(range_stream(&descending), Err(status::RANGE_STREAM_SORT));
        let target_without_order = RangeRequest {
            sort_target: SortTarget::Version as i32,
            ..plain.clone()
        };
        assert_eq!(range_stream(&target_without_order), Ok(()));
        let by_version = RangeRequest {
            sort_target: SortTarget::Version as i32,
            sort_order: SortOrder::Ascend as i32,
            ..plain.clone()
        };
        assert_eq!(range_stream(&by_version), Err(status::RANGE_STREAM_SORT));
        let filtered = RangeRequest {
            max_create_revision: 7,
            ..plain
        };
        assert_eq!(range_stream(&filtered), Err(status::RANGE_STREAM_FILTERS));
    }

    #[test]
    fn a_put_cannot_give_what_it_asks_to_keep() {
        let value = PutRequest {
            key: key(),
            value: key(),
            ignore_value: true,
            ..Default::default()
        };
        assert_eq!(put(&value), Err(status::VALUE_PROVIDED));
        let lease = PutRequest {
            key: key(),
            lease: 1,
            ignore_lease: true,
            ..Default::default()
        };
        assert_eq!(put(&lease), Err(status::LEASE_PROVIDED));
        let neither = PutRequest {
            key: key(),
            ignore_value: true,
            ignore_lease: true,
            ..Default::default()
        };
        assert_eq!(put(&neither), Ok(()));
    }
}
