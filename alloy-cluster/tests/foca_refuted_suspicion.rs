//! Foca's fault that we go around (`docs/upstream/foca-refuted-suspicion.md`). If this fails, foca has been repaired:
//! remove it, and the note in `src/swim/runtime.rs`.

use bytes::{Buf, BufMut};
use foca::{
    AccumulatingRuntime, Codec, Config, Foca, Header, Identity, Member, Message, OwnedNotification, State,
    Timer,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node(u16);

impl Identity for Node {
    type Addr = u16;

    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> u16 {
        self.0
    }

    fn win_addr_conflict(&self, _adversary: &Self) -> bool {
        false
    }
}

/// The message's kind is all that this test reads.
struct Kinds;

#[derive(Debug, thiserror::Error)]
#[error("short")]
struct Short;

impl Codec<Node> for Kinds {
    type Error = Short;

    fn encode_header(&mut self, header: &Header<Node>, mut buf: impl BufMut) -> Result<(), Short> {
        buf.put_u16(header.dst.0);
        buf.put_u8(u8::from(header.message == Message::TurnUndead));
        Ok(())
    }

    fn decode_header(&mut self, _buf: impl Buf) -> Result<Header<Node>, Short> {
        Err(Short)
    }

    fn encode_member(&mut self, member: &Member<Node>, mut buf: impl BufMut) -> Result<(), Short> {
        buf.put_u16(member.id().0);
        Ok(())
    }

    fn decode_member(&mut self, _buf: impl Buf) -> Result<Member<Node>, Short> {
        Err(Short)
    }
}

#[test]
fn foca_tells_a_member_that_has_objected_in_time_that_it_is_down() {
    let config = Config::new_lan(std::num::NonZeroU32::MIN);
    assert!(config.notify_down_members, "on by default");
    let mut foca = Foca::new(Node(1), config, StdRng::seed_from_u64(1), Kinds);
    let mut runtime = AccumulatingRuntime::new();
    let member = |incarnation, state| std::iter::once(Member::new(Node(2), incarnation, state));
    foca.apply_many(member(0, State::Alive), true, &mut runtime).expect("it is new");

    // Two rounds of probing without an answer: suspected, and a timer for its death.
    let mut death = None;
    for _ in 0..8 {
        for (_, timer) in std::iter::from_fn(|| runtime.to_schedule()).collect::<Vec<_>>() {
            match timer {
                Timer::ChangeSuspectToDown { .. } => death = Some(timer),
                Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => {
                    let _probing = foca.handle_timer(timer, &mut runtime);
                }
                _ => {}
            }
        }
    }
    let death = death.expect("it has not answered");

    // It objects in time, with a higher incarnation.
    foca.apply_many(member(1, State::Alive), true, &mut runtime).expect("it is newer");
    while runtime.to_send().is_some() {}
    while runtime.to_notify().is_some() {}

    foca.handle_timer(death, &mut runtime).expect("the timer is valid");
    assert_eq!(foca.num_members(), 1, "it is rightly kept");
    let down = std::iter::from_fn(|| runtime.to_notify())
        .any(|notification| matches!(notification, OwnedNotification::MemberDown(_)));
    assert!(!down, "and rightly not reported down");
    let told = std::iter::from_fn(|| runtime.to_send()).any(|(to, data)| to == Node(2) && data[2] == 1);
    assert!(told, "and yet it is told that it is down (TurnUndead)");
}
