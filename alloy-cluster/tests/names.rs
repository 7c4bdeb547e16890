//! Names: of clusters, which keep strangers out, and of nodes, which one process has at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alloy_cluster::{ClusterEvent, Member, Node, Phase, Swim, SwimConfig, Timing};

fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

fn swim(now: Instant, cluster: &str, name: &str, incarnation: u64, port: u16) -> Swim {
    let node = Node { name: name.into(), address: address(port), incarnation };
    let me = Member { phase: Phase::Active, ..Member::new(node) };
    let config =
        SwimConfig { cluster: cluster.into(), me, timing: Timing::lan(), seed: u64::from(port), keys: None };
    Swim::new(now, config).expect("the names are short")
}

/// Runs processes that listen at the ports 0, 1, 2, ... with packets that take no time.
fn run(now: &mut Instant, swims: &mut [Swim], duration: Duration) {
    let end = *now + duration;
    while *now < end {
        *now += Duration::from_millis(10);
        for swim in swims.iter_mut() {
            if swim.poll_deadline().is_some_and(|due| due <= *now) {
                swim.handle_timeout(*now);
            }
        }
        for _ in 0..10 {
            for sender in 0..swims.len() {
                while let Some((to, bytes)) = swims[sender].poll_packet() {
                    if let Some(receiver) = swims.get_mut(usize::from(to.port())) {
                        receiver.handle_packet(*now, address(sender as u16), &bytes);
                    }
                }
                while let Some((to, bytes)) = swims[sender].poll_message() {
                    let from = swims[sender]
                        .view()
                        .members()
                        .iter()
                        .find(|m| m.node.address == address(sender as u16));
                    let Some(from) = from.map(|member| member.node.name.clone()) else { continue };
                    let port = swims[sender].view().address(&to).map(|address| usize::from(address.port()));
                    if let Some(receiver) = port.and_then(|port| swims.get_mut(port)) {
                        receiver.handle_message(*now, &from, &bytes);
                    }
                }
            }
        }
    }
}

fn events(swim: &mut Swim) -> Vec<ClusterEvent> {
    std::iter::from_fn(|| swim.poll_event()).collect()
}

#[test]
fn packets_of_another_cluster_are_refused_and_told_once() {
    let mut now = Instant::now();
    let mut swims = [swim(now, "ours", "a", 1, 0), swim(now, "theirs", "b", 1, 1)];
    let before = swims[0].view().clone();
    for _ in 0..5 {
        swims[1].handle_join(now, &[address(0)]);
        run(&mut now, &mut swims, Duration::from_secs(1));
    }
    assert_eq!(*swims[0].view(), before);
    assert_eq!(swims[0].stats().foreign, 5);
    assert_eq!(events(&mut swims[0]), [ClusterEvent::InTheClear, ClusterEvent::ForeignCluster(address(1))]);
}

#[test]
fn a_newer_process_takes_the_name_and_the_older_withdraws() {
    let mut now = Instant::now();
    let mut swims = [swim(now, "c", "a", 1, 0), swim(now, "c", "b", 1, 1), swim(now, "c", "x", 1, 2)];
    swims[1].handle_join(now, &[address(0)]);
    swims[2].handle_join(now, &[address(0)]);
    run(&mut now, &mut swims, Duration::from_secs(3));
    assert_eq!(swims[0].view().members().len(), 3);

    // The same name again, elsewhere, while the older process still runs.
    let mut swims: Vec<Swim> = swims.into_iter().chain([swim(now, "c", "x", 2, 3)]).collect();
    swims[3].handle_join(now, &[address(0)]);
    run(&mut now, &mut swims, Duration::from_secs(10));
    for index in [0, 1, 3] {
        assert_eq!(swims[index].view().address(&"x".into()), Some(address(3)), "{:?}", swims[index].view());
        assert_eq!(swims[index].view().digest(), swims[0].view().digest());
    }
    let taken = Node { name: "x".into(), address: address(3), incarnation: 2 };
    assert!(events(&mut swims[2]).contains(&ClusterEvent::NameTaken(taken)));
    let alone = swims[2].view().members();
    assert_eq!((alone.len(), alone[0].phase), (1, Phase::Joining));
    assert_eq!(swims[3].stats().rejoins, 0, "the newer has not had to change");
}

#[test]
fn a_restart_with_a_clock_behind_gets_its_name_back() {
    let mut now = Instant::now();
    let mut swims = vec![swim(now, "c", "a", 1, 0), swim(now, "c", "x", 100, 1)];
    swims[1].handle_join(now, &[address(0)]);
    run(&mut now, &mut swims, Duration::from_secs(2));
    swims[1] = swim(now, "c", "x", 50, 1);
    swims[1].handle_join(now, &[address(0)]);
    run(&mut now, &mut swims, Duration::from_secs(5));
    let seen = swims[0].view().member(&"x".into()).map(|member| member.node.incarnation);
    assert_eq!(seen, Some(101), "{:?}", swims[0].view());
    assert_eq!(swims[0].view().digest(), swims[1].view().digest());
}
