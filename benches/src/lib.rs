//! Instruction counts with committed baselines, criterion benchmarks, the floor of an enrolment.
