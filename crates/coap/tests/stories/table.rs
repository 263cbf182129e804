//! The resource table's verdict on a request is returned to the caller in the table's own types.

use std::cell::Cell;

use coap::server::{Admit, Done, Handled, Head, Repeat, RequestRefusal, Resources, Response};
use coap::{BlockSize, Code, Method, Number};

use crate::harness::{Make, Server, body};

/// Counts how often it judges a head.
#[derive(Default)]
struct Counting {
    judged: Cell<u32>,
}

#[derive(Debug, PartialEq)]
enum Target {
    Bottles { accept: Option<u16> },
}

#[derive(Debug, PartialEq)]
enum Refusal {
    NotHere,
    NotAcceptable,
    Closed { seconds: u32 },
}

impl Resources for Counting {
    type Target = Target;
    type Refusal = Refusal;

    fn find(&self, head: &Head<'_>) -> Result<Target, Refusal> {
        self.judged.set(self.judged.get() + 1);
        let accept = head.accept().map(|format| format.0);
        match accept {
            _ if !head.path_is("bottles") => Err(Refusal::NotHere),
            Some(60) => Err(Refusal::NotAcceptable),
            _ => Ok(Target::Bottles { accept }),
        }
    }

    fn admit(&self, target: &Target) -> Result<Admit, Refusal> {
        match target {
            Target::Bottles { accept: Some(50) } => Err(Refusal::Closed { seconds: 7 }),
            Target::Bottles { .. } => Ok(Admit { body_bytes_max: 1_000, repeat: Repeat::Remembered }),
        }
    }

    fn response(&self, refusal: &Refusal) -> Response<'static> {
        match refusal {
            Refusal::NotHere => Response::empty(Code::NOT_FOUND),
            Refusal::NotAcceptable => Response::empty(Code::NOT_ACCEPTABLE),
            Refusal::Closed { seconds } => Response::unavailable(*seconds, "closed"),
        }
    }
}

fn deliver<'d>(server: &mut Server, table: &Counting, datagram: &'d [u8]) -> Handled<'d, Target, Refusal> {
    server.out.clear();
    server.peer.handle(server.now, datagram, &mut server.shared, table, &mut server.out)
}

fn bottles(id: u16) -> Make {
    Make::post("bottles", id)
}

#[test]
fn a_target_comes_with_its_request_and_a_head_is_judged_once() {
    let (mut server, table) = (Server::new(), Counting::default());
    let datagram = bottles(1).uint(Number::ACCEPT, 40).payload(b"green").bytes();
    let Handled::Request { request, target, .. } = deliver(&mut server, &table, &datagram) else { panic!("refused") };
    assert_eq!((target, request.head().method()), (Ok(Target::Bottles { accept: Some(40) }), Method::Post));
    assert_eq!(table.judged.get(), 1);
}

#[test]
fn the_words_of_a_refusal_come_back_to_the_caller() {
    let (mut server, table) = (Server::new(), Counting::default());
    let elsewhere = Make::post("cans", 1).payload(b"green").bytes();
    assert!(matches!(deliver(&mut server, &table, &elsewhere), Handled::RefusedByTable(Refusal::NotHere)));
    let closed = bottles(2).uint(Number::ACCEPT, 50).payload(b"green").bytes();
    let handled = deliver(&mut server, &table, &closed);
    assert!(matches!(handled, Handled::RefusedByTable(Refusal::Closed { seconds: 7 })), "{handled:?}");
    assert_eq!((table.judged.get(), server.shared.counters().refused), (2, 2));
}

#[test]
fn what_the_message_layer_refuses_has_its_target_where_the_table_found_one() {
    let (mut server, table) = (Server::new(), Counting::default());
    let announced = bottles(1).block1(0, true, BlockSize::B64).uint(Number::SIZE1, 1_001).payload(&[0; 64]).bytes();
    let large = bottles(2).payload(&[0; 1_001]).bytes();
    for datagram in [announced, large] {
        let Handled::Done { done, target } = deliver(&mut server, &table, &datagram) else { panic!("handed up") };
        assert!(matches!(done, Done::Refused(RequestRefusal::TooLarge { body_bytes_max: 1_000 })), "{done:?}");
        assert_eq!(target, Some(Target::Bottles { accept: None }));
    }
    let astray = bottles(3).piece(&body(192, 0), 1, BlockSize::B64).bytes();
    let handled = deliver(&mut server, &table, &astray);
    assert!(matches!(handled, Handled::Done { done: Done::Refused(_), target: None }), "{handled:?}");
}

#[test]
fn of_an_upload_the_first_and_the_last_head_are_judged_and_no_other() {
    let (mut server, table, whole) = (Server::new(), Counting::default(), body(192, 0));
    for (num, judged) in [(0, 1), (1, 1)] {
        deliver(&mut server, &table, &bottles(num).piece(&whole, num.into(), BlockSize::B64).bytes());
        assert_eq!(table.judged.get(), judged, "after block {num}");
    }
    // The last block asks for another format than the first, and the table does not offer it.
    let last = bottles(2).uint(Number::ACCEPT, 60).piece(&whole, 2, BlockSize::B64).bytes();
    let handled = deliver(&mut server, &table, &last);
    assert!(matches!(handled, Handled::Request { target: Err(Refusal::NotAcceptable), .. }), "{handled:?}");
    assert_eq!(table.judged.get(), 2);
}
