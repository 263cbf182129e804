//! The fleet behind muster load: arrival schedules, devices, statistics, reports.
