//! One suite, run against every engine of this build.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod suite {
    pub(crate) mod crash;
    pub(crate) mod disk_errors;
    pub(crate) mod durability;
    pub(crate) mod model;
    pub(crate) mod opening;
    pub(crate) mod reading;
    pub(crate) mod support;
    pub(crate) mod writing;
}

macro_rules! run_with {
    ($engine:ident, $kind:expr, $($module:ident :: { $($test:ident),* $(,)? })*) => {
        mod $engine {
            $(mod $module {
                $(#[test]
                fn $test() {
                    crate::suite::$module::$test($kind);
                })*
            })*
        }
    };
}

macro_rules! run_with_every_engine {
    ($($tests:tt)*) => {
        run_with!(memory, metastore_engine::Kind::Memory, $($tests)*);
        #[cfg(feature = "rocksdb")]
        run_with!(rocksdb, metastore_engine::Kind::RocksDb, $($tests)*);
    };
}

run_with_every_engine! {
    reading::{
        a_missing_row_is_none_and_an_empty_value_is_some,
        rows_come_in_the_order_of_their_bytes,
        a_scan_keeps_to_its_bounds_and_stops_when_told,
        get_many_answers_in_the_order_of_its_keys,
        a_view_does_not_change_while_writes_flushes_and_reclaims_go_on,
        a_view_outlives_its_engine,
        readers_beside_a_writer_see_whole_batches_only,
    }
    writing::{
        operations_of_a_batch_take_effect_in_their_order,
        spaces_are_apart,
        a_range_is_deleted_without_its_end,
        big_values_and_long_keys_are_kept,
        an_empty_batch_changes_nothing,
    }
    durability::{
        what_was_flushed_is_there_after_reopening,
        a_drop_without_flush_loses_whole_batches_at_most,
        a_second_flush_without_writes_is_free,
        writes_go_on_while_a_flush_runs,
        reclaim_gives_disk_space_back,
        reclaim_stops_when_told,
        memory_stays_within_its_bounds,
    }
    opening::{
        another_engine_s_directory_is_refused_and_left_alone,
        a_newer_format_is_refused,
        a_directory_with_strange_files_is_refused_and_left_alone,
        missing_directories_are_created,
        a_directory_is_open_only_once,
        a_damaged_file_is_an_error_that_names_it,
    }
    model::{ an_engine_is_a_btree_map_across_reopens }
    crash::{ a_killed_process_leaves_a_prefix_of_its_batches }
    disk_errors::{
        an_engine_that_ran_out_of_room_says_so_and_loses_nothing,
        a_write_that_the_system_refuses_is_never_taken_for_durable,
    }
}

#[test]
fn child_writes_until_it_is_killed() {
    suite::crash::child();
}

#[test]
fn child_runs_out_of_room() {
    suite::disk_errors::child_without_room();
}

#[test]
fn child_is_refused_large_files() {
    suite::disk_errors::child_with_small_files();
}
