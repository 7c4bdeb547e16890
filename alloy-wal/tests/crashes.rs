//! Whenever the process or the machine stops, what was promised is there, nothing is invented, and no cursor is ahead.

mod common;

use alloy_wal::Crash;
use common::Run;

const STEPS: u32 = 120;

#[test]
fn a_crash_at_any_storage_call_keeps_every_promise() {
    for seed in 1..4 {
        let calls = {
            let mut run = Run::small(seed);
            assert!(run.open());
            (0..STEPS).for_each(|_| drop(run.step()));
            run.storage.calls()
        };
        for crash in [Crash::Process, Crash::Power] {
            for call in 0..calls {
                println!("seed {seed}, {crash:?} at call {call}");
                let mut run = Run::small(seed);
                run.storage.crash_at(call);
                if run.open() {
                    (0..STEPS).for_each(|_| drop(run.step()));
                }
                run.crash_and_check(crash);
                (0..20).for_each(|_| run.step().expect("the disk works again"));
                run.crash_and_check(Crash::Process);
            }
        }
    }
}

#[test]
fn many_crashes_in_a_row_keep_every_promise() {
    for seed in 0..150 {
        println!("seed {seed}");
        let mut run = Run::small(seed);
        assert!(run.open());
        for _ in 0..12 {
            let steps = run.random.below(80);
            if run.random.below(2) == 0 {
                let call = run.random.below(40);
                run.storage.crash_at(call);
            }
            (0..steps).for_each(|_| drop(run.step()));
            let crash = if run.random.below(2) == 0 { Crash::Process } else { Crash::Power };
            run.crash_and_check(crash);
        }
    }
}

#[test]
fn a_crash_during_recovery_keeps_every_promise() {
    for seed in 0..40 {
        let mut run = Run::small(seed);
        assert!(run.open());
        (0..100).for_each(|_| drop(run.step()));
        run.log = None;
        run.storage = run.storage.restart(Crash::Power);
        for call in 0..6 {
            println!("seed {seed}, call {call}");
            run.storage.crash_at(call * 3);
            run.open();
            run.log = None;
            run.storage = run.storage.restart(Crash::Power);
        }
        assert!(run.open(), "the log opens after a crash");
        let promised = run.promises.durable;
        run.check(promised);
    }
}
