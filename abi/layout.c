/* Sizes and offsets of every struct that crosses the ABI, on 64-bit machines. src/ffi asserts the same in Rust. */
#include <vfiomig.h>

#define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
#define AT(type, member, offset) _Static_assert(offsetof(struct type, member) == (offset), #type "." #member)

_Static_assert(sizeof(void *) == 8, "64-bit only");

SIZE(vfiomig_device_options, 32);
AT(vfiomig_device_options, argsz, 0);
AT(vfiomig_device_options, flags, 4);
AT(vfiomig_device_options, name, 8);
AT(vfiomig_device_options, buffer_size, 16);
AT(vfiomig_device_options, dialect, 24);
AT(vfiomig_device_options, draft_cursor, 28);

SIZE(vfiomig_device_ops, 104);
AT(vfiomig_device_ops, device_info, 8);
AT(vfiomig_device_ops, device_feature, 16);
AT(vfiomig_device_ops, region_info, 24);
AT(vfiomig_device_ops, region_read, 32);
AT(vfiomig_device_ops, region_write, 40);
AT(vfiomig_device_ops, region_map, 48);
AT(vfiomig_device_ops, region_unmap, 56);
AT(vfiomig_device_ops, device_reset, 64);
AT(vfiomig_device_ops, data_read, 72);
AT(vfiomig_device_ops, data_write, 80);
AT(vfiomig_device_ops, data_precopy_info, 88);
AT(vfiomig_device_ops, data_close, 96);

SIZE(vfiomig_device_info, 304);
AT(vfiomig_device_info, dialect, 8);
AT(vfiomig_device_info, caps, 12);
AT(vfiomig_device_info, state, 16);
AT(vfiomig_device_info, session_open, 20);
AT(vfiomig_device_info, session, 24);
AT(vfiomig_device_info, saved_bytes, 32);
AT(vfiomig_device_info, loaded_bytes, 40);
AT(vfiomig_device_info, reason, 48);

SIZE(vfiomig_device_pending, 40);
AT(vfiomig_device_pending, initial_bytes, 8);
AT(vfiomig_device_pending, dirty_bytes, 16);
AT(vfiomig_device_pending, stop_copy_bytes, 24);
AT(vfiomig_device_pending, reinit_count, 32);
AT(vfiomig_device_pending, reserved, 36);

SIZE(vfiomig_range, 16);
AT(vfiomig_range, iova, 0);
AT(vfiomig_range, size, 8);

SIZE(vfiomig_chunk, 32);
AT(vfiomig_chunk, data, 0);
AT(vfiomig_chunk, len, 8);
AT(vfiomig_chunk, segment_left, 16);
AT(vfiomig_chunk, flags, 24);
AT(vfiomig_chunk, reserved, 28);

SIZE(vfiomig_device_result, 48);
AT(vfiomig_device_result, device, 0);
AT(vfiomig_device_result, message, 8);
AT(vfiomig_device_result, duration_ns, 16);
AT(vfiomig_device_result, saved_errno, 24);
AT(vfiomig_device_result, from, 28);
AT(vfiomig_device_result, to, 32);
AT(vfiomig_device_result, found, 36);
AT(vfiomig_device_result, action, 40);
AT(vfiomig_device_result, flags, 44);

SIZE(vfiomig_mapping, 32);
AT(vfiomig_mapping, iova, 0);
AT(vfiomig_mapping, size, 8);
AT(vfiomig_mapping, cookie, 16);
AT(vfiomig_mapping, flags, 24);
AT(vfiomig_mapping, reserved, 28);

SIZE(vfiomig_tracker_ops, 32);
AT(vfiomig_tracker_ops, start, 8);
AT(vfiomig_tracker_ops, report, 16);
AT(vfiomig_tracker_ops, stop, 24);

SIZE(vfiomig_tracker_options, 88);
AT(vfiomig_tracker_options, name, 8);
AT(vfiomig_tracker_options, devices, 16);
AT(vfiomig_tracker_options, device_count, 24);
AT(vfiomig_tracker_options, hwpt_ids, 32);
AT(vfiomig_tracker_options, hwpt_count, 40);
AT(vfiomig_tracker_options, page_size, 48);
AT(vfiomig_tracker_options, container_fd, 56);
AT(vfiomig_tracker_options, iommufd, 60);
AT(vfiomig_tracker_options, ioas_id, 64);
AT(vfiomig_tracker_options, max_workers, 68);
AT(vfiomig_tracker_options, apertures, 72);
AT(vfiomig_tracker_options, aperture_count, 80);

SIZE(vfiomig_tracker_info, 304);
AT(vfiomig_tracker_info, kind, 8);
AT(vfiomig_tracker_info, starts, 12);
AT(vfiomig_tracker_info, failed_logs, 16);
AT(vfiomig_tracker_info, page_size, 24);
AT(vfiomig_tracker_info, mapped_ranges, 32);
AT(vfiomig_tracker_info, logged_ranges, 40);
AT(vfiomig_tracker_info, reason, 48);

SIZE(vfiomig_dest, 56);
AT(vfiomig_dest, iova, 0);
AT(vfiomig_dest, size, 8);
AT(vfiomig_dest, first_bit, 16);
AT(vfiomig_dest, page_size, 24);
AT(vfiomig_dest, bitmap, 32);
AT(vfiomig_dest, opaque, 40);
AT(vfiomig_dest, flags, 48);
AT(vfiomig_dest, reserved, 52);

SIZE(vfiomig_run_state_result, 24);
AT(vfiomig_run_state_result, action, 8);
AT(vfiomig_run_state_result, void_streams, 12);
AT(vfiomig_run_state_result, first_void, 16);

SIZE(vfiomig_harvest_request, 64);
AT(vfiomig_harvest_request, dests, 8);
AT(vfiomig_harvest_request, dest_count, 16);
AT(vfiomig_harvest_request, words, 24);
AT(vfiomig_harvest_request, run, 32);
AT(vfiomig_harvest_request, opaque, 40);
AT(vfiomig_harvest_request, max_workers, 48);
AT(vfiomig_harvest_request, pass, 56);

SIZE(vfiomig_harvest_result, 48);
AT(vfiomig_harvest_result, newly_dirty_pages, 8);
AT(vfiomig_harvest_result, dirty_pages, 16);
AT(vfiomig_harvest_result, degraded_bytes, 24);
AT(vfiomig_harvest_result, reads, 32);
AT(vfiomig_harvest_result, failed_reads, 40);
AT(vfiomig_harvest_result, first_errno, 44);

SIZE(vfiomig_phase_report, 56);
AT(vfiomig_phase_report, results, 0);
AT(vfiomig_phase_report, result_count, 8);
AT(vfiomig_phase_report, begun_ns, 16);
AT(vfiomig_phase_report, duration_ns, 24);
AT(vfiomig_phase_report, phase, 32);
AT(vfiomig_phase_report, flags, 36);
AT(vfiomig_phase_report, reserved, 40);

SIZE(vfiomig_part_report, 48);
AT(vfiomig_part_report, device, 0);
AT(vfiomig_part_report, bytes, 8);
AT(vfiomig_part_report, reads, 16);
AT(vfiomig_part_report, time_ns, 24);
AT(vfiomig_part_report, waits, 32);
AT(vfiomig_part_report, retries, 40);

SIZE(vfiomig_entry_report, 88);
AT(vfiomig_entry_report, parts, 0);
AT(vfiomig_entry_report, part_count, 8);
AT(vfiomig_entry_report, text, 16);
AT(vfiomig_entry_report, begun_ns, 24);
AT(vfiomig_entry_report, duration_ns, 32);
AT(vfiomig_entry_report, calls, 40);
AT(vfiomig_entry_report, bytes, 48);
AT(vfiomig_entry_report, pages, 56);
AT(vfiomig_entry_report, reads, 64);
AT(vfiomig_entry_report, kind, 72);
AT(vfiomig_entry_report, phase, 76);
AT(vfiomig_entry_report, flags, 80);
AT(vfiomig_entry_report, reserved, 84);

SIZE(vfiomig_counters_report, 64);
AT(vfiomig_counters_report, parts, 0);
AT(vfiomig_counters_report, part_count, 8);
AT(vfiomig_counters_report, retries, 16);
AT(vfiomig_counters_report, waits, 24);
AT(vfiomig_counters_report, degraded, 32);
AT(vfiomig_counters_report, failed_reads, 40);
AT(vfiomig_counters_report, log_restarts, 48);
AT(vfiomig_counters_report, reserved, 56);

SIZE(vfiomig_group_options, 40);
AT(vfiomig_group_options, max_workers, 8);
AT(vfiomig_group_options, foreign_initiators, 12);
AT(vfiomig_group_options, progress, 16);
AT(vfiomig_group_options, opaque, 24);
AT(vfiomig_group_options, progress_interval_ns, 32);

SIZE(vfiomig_progress, 312);
AT(vfiomig_progress, request, 8);
AT(vfiomig_progress, state, 12);
AT(vfiomig_progress, target, 16);
AT(vfiomig_progress, reserved, 20);
AT(vfiomig_progress, since_ns, 24);
AT(vfiomig_progress, log_since_ns, 32);
AT(vfiomig_progress, saved_bytes, 40);
AT(vfiomig_progress, loaded_bytes, 48);
AT(vfiomig_progress, name, 56);

SIZE(vfiomig_progress_event, 40);
AT(vfiomig_progress_event, kind, 8);
AT(vfiomig_progress_event, asked, 12);
AT(vfiomig_progress_event, arrived, 16);
AT(vfiomig_progress_event, reserved, 20);
AT(vfiomig_progress_event, elapsed_ns, 24);
AT(vfiomig_progress_event, device, 32);

SIZE(vfiomig_group_abilities, 16);
AT(vfiomig_group_abilities, abilities, 8);
AT(vfiomig_group_abilities, reason_count, 12);

SIZE(vfiomig_migration_pending, 48);
AT(vfiomig_migration_pending, initial_bytes, 8);
AT(vfiomig_migration_pending, dirty_bytes, 16);
AT(vfiomig_migration_pending, stop_copy_bytes, 24);
AT(vfiomig_migration_pending, saved_bytes, 32);
AT(vfiomig_migration_pending, ready, 40);
AT(vfiomig_migration_pending, reinit_count, 44);

SIZE(vfiomig_migration_options, 16);
AT(vfiomig_migration_options, queue_bytes, 8);

SIZE(vfiomig_migration_estimate_options, 32);
AT(vfiomig_migration_estimate_options, bytes_per_second, 8);
AT(vfiomig_migration_estimate_options, transition_ns, 16);
AT(vfiomig_migration_estimate_options, other_bytes, 24);

SIZE(vfiomig_migration_estimate, 56);
AT(vfiomig_migration_estimate, downtime_ns, 8);
AT(vfiomig_migration_estimate, transition_ns, 16);
AT(vfiomig_migration_estimate, transfer_ns, 24);
AT(vfiomig_migration_estimate, bytes, 32);
AT(vfiomig_migration_estimate, bytes_per_second, 40);
AT(vfiomig_migration_estimate, unknown, 48);
AT(vfiomig_migration_estimate, unknown_devices, 52);

SIZE(vfiomig_channel, 16);
AT(vfiomig_channel, fd, 0);
AT(vfiomig_channel, flags, 4);
AT(vfiomig_channel, total, 8);

SIZE(vfiomig_drain_result, 16);
AT(vfiomig_drain_result, bytes, 0);
AT(vfiomig_drain_result, flags, 8);
AT(vfiomig_drain_result, reserved, 12);

SIZE(vfiomig_wire_word, 16);
AT(vfiomig_wire_word, key, 0);
AT(vfiomig_wire_word, value, 8);

SIZE(vfiomig_wire_device, 32);
AT(vfiomig_wire_device, name, 0);
AT(vfiomig_wire_device, dialect, 8);
AT(vfiomig_wire_device, channel, 12);
AT(vfiomig_wire_device, words, 16);
AT(vfiomig_wire_device, word_count, 24);

SIZE(vfiomig_writer_options, 72);
AT(vfiomig_writer_options, write, 8);
AT(vfiomig_writer_options, opaque, 16);
AT(vfiomig_writer_options, fd, 24);
AT(vfiomig_writer_options, timeout_ms, 28);
AT(vfiomig_writer_options, channel, 32);
AT(vfiomig_writer_options, channels, 36);
AT(vfiomig_writer_options, wire, 40);
AT(vfiomig_writer_options, devices, 48);
AT(vfiomig_writer_options, device_count, 56);
AT(vfiomig_writer_options, deadline_ms, 64);

SIZE(vfiomig_reader_options, 40);
AT(vfiomig_reader_options, read, 8);
AT(vfiomig_reader_options, opaque, 16);
AT(vfiomig_reader_options, fd, 24);
AT(vfiomig_reader_options, timeout_ms, 28);
AT(vfiomig_reader_options, deadline_ms, 32);

SIZE(vfiomig_record, 40);
AT(vfiomig_record, data, 0);
AT(vfiomig_record, len, 8);
AT(vfiomig_record, position, 16);
AT(vfiomig_record, record, 24);
AT(vfiomig_record, device_index, 28);
AT(vfiomig_record, flags, 32);
AT(vfiomig_record, reserved, 36);

SIZE(vfiomig_wire_progress, 16);
AT(vfiomig_wire_progress, bytes, 0);
AT(vfiomig_wire_progress, round, 8);
AT(vfiomig_wire_progress, ready, 12);

SIZE(vfiomig_save_to_request, 40);
AT(vfiomig_save_to_request, round_bytes, 8);
AT(vfiomig_save_to_request, round_ns, 16);
AT(vfiomig_save_to_request, step, 24);
AT(vfiomig_save_to_request, opaque, 32);

SIZE(vfiomig_load_from_request, 48);
AT(vfiomig_load_from_request, devices, 8);
AT(vfiomig_load_from_request, device_count, 16);
AT(vfiomig_load_from_request, record, 24);
AT(vfiomig_load_from_request, step, 32);
AT(vfiomig_load_from_request, opaque, 40);
