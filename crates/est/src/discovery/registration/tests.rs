use coap::{Encoder, Kind, Number};

use super::*;

/// A directory that a test plays by hand.
struct Desk {
    registrant: Registrant,
    now: Instant,
}

/// A request that the directory got.
struct Got {
    message: Vec<u8>,
}

impl Got {
    fn view(&self) -> Message<'_> {
        Message::parse(&self.message).unwrap()
    }

    fn line(&self) -> String {
        let message = self.view();
        let texts = |number| message.options_of(number).map(|text| str::from_utf8(text).unwrap()).collect::<Vec<_>>();
        let method = Method::from_code(message.code()).unwrap();
        let (path, queries) = (texts(Number::URI_PATH).join("/"), texts(Number::URI_QUERY).join("&"));
        format!("{method} /{path}?{queries}")
    }
}

fn spec() -> RegistrationSpec {
    RegistrationSpec {
        endpoint: "est.example.net".to_owned(),
        lifetime: Duration::from_secs(3_600),
        base: LinkBase::parse("coaps://est.example.net:5690").unwrap(),
        links: br#"</est/sen>;rt="ace.est.sen";ct="281 287""#.to_vec(),
    }
}

const FIND: &str = "GET /.well-known/core?rt=core.rd";
const REGISTER: &str = "POST /rd?ep=est.example.net&lt=3600&base=coaps://est.example.net:5690";

impl Desk {
    fn new(uri: &str) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time; nothing is measured with it")]
        let now = Instant::now();
        Self { registrant: Registrant::new(now, &DirectoryUri::parse(uri).unwrap(), spec(), 11), now }
    }

    /// One that the registrant is listed in, as `/reg/7`.
    fn listed() -> Self {
        let mut desk = Self::new("coap://rd.example.net");
        desk.answer(FIND, Code::CONTENT, &[], br#"</rd>;rt="core.rd";ct=40"#);
        desk.answer(REGISTER, Code::CREATED, &["reg", "7"], b"");
        let location = "reg/7".to_owned();
        assert_eq!(desk.registrant.poll_event(), Some(RegistrationEvent::Registered { location }));
        desk
    }

    fn sent(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        while let Some(datagram) = self.registrant.poll_transmit() {
            all.push(Got { message: datagram.to_vec() });
        }
        all
    }

    /// Takes the one request that is on its way, and answers it.
    fn answer(&mut self, wanted: &str, code: Code, location: &[&str], payload: &[u8]) {
        let sent = self.sent();
        assert_eq!(sent.iter().map(Got::line).collect::<Vec<_>>(), [wanted]);
        let message = sent[0].view();
        assert_eq!(message.kind(), Kind::Confirmable);
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, Kind::Acknowledgement, code, message.message_id(), message.token());
        for segment in location {
            encoder = encoder.option(Number::LOCATION_PATH, segment.as_bytes());
        }
        encoder.payload(payload);
        self.registrant.handle_datagram(self.now, &bytes);
    }

    /// Moves on to the next timeout, which has to come within `most`.
    fn wait(&mut self, most: Duration) -> Duration {
        let at = self.registrant.poll_timeout().unwrap();
        let waited = at - self.now;
        assert!(waited <= most, "{waited:?}");
        self.now = at;
        self.registrant.handle_timeout(self.now);
        waited
    }

    fn failure(&mut self) -> (&'static str, RegistrationFailure) {
        match self.registrant.poll_event() {
            Some(RegistrationEvent::Failed { step, why, .. }) => (step, why),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn links_are_registered_with_their_base_and_refreshed_before_the_lifetime_ends() {
    let mut desk = Desk::listed();
    for _ in 0..3 {
        let waited = desk.wait(Duration::from_secs(2_700));
        assert!(waited >= Duration::from_secs(1_800), "{waited:?}");
        desk.answer("POST /reg/7?", Code::CHANGED, &[], b"");
        assert_eq!(desk.registrant.poll_event(), Some(RegistrationEvent::Refreshed));
    }
}

#[test]
fn the_payload_is_the_links_and_a_named_directory_gets_its_name() {
    let mut desk = Desk::new("coap://rd.example.net/dir/rd");
    let sent = desk.sent();
    let message = sent[0].view();
    assert!(sent[0].line().starts_with("POST /dir/rd?ep="), "a path is not asked for");
    assert_eq!(message.payload(), spec().links);
    assert_eq!(message.uint(Number::CONTENT_FORMAT), Some(40));
    assert_eq!(message.option(Number::URI_HOST), Some(&b"rd.example.net"[..]));
    let mut desk = Desk::new("coap://[2001:db8::1]:5700");
    assert_eq!(desk.sent()[0].view().option(Number::URI_HOST), None);
}

#[test]
fn changed_links_replace_those_that_are_listed() {
    let mut desk = Desk::listed();
    desk.registrant.change(desk.now, spec());
    assert!(desk.sent().is_empty(), "nothing has changed");
    let changed = RegistrationSpec { links: b"</est/crts>;rt=x".to_vec(), ..spec() };
    desk.registrant.change(desk.now, changed.clone());
    desk.answer(REGISTER, Code::CREATED, &["reg", "7"], b"");
    // A change while a request is on its way is sent after it.
    desk.wait(Duration::from_secs(2_700));
    desk.registrant.change(desk.now, RegistrationSpec { links: b"</est/skg>;rt=x".to_vec(), ..changed });
    desk.answer("POST /reg/7?", Code::CHANGED, &[], b"");
    let sent = desk.sent();
    assert_eq!(sent[0].line(), REGISTER);
    assert_eq!(sent[0].view().payload(), b"</est/skg>;rt=x");
}

#[test]
fn a_server_that_ends_removes_its_links() {
    let mut desk = Desk::listed();
    desk.registrant.remove(desk.now);
    assert!(!desk.registrant.is_over());
    desk.answer("DELETE /reg/7?", Code::DELETED, &[], b"");
    assert_eq!(desk.registrant.poll_event(), Some(RegistrationEvent::Removed));
    assert!(desk.registrant.is_over() && desk.registrant.poll_timeout().is_none());
    // In the middle of a registration: its answer says what to remove.
    let mut desk = Desk::new("coap://rd.example.net/rd");
    desk.registrant.remove(desk.now);
    desk.answer(REGISTER, Code::CREATED, &["r"], b"");
    desk.answer("DELETE /r?", Code::DELETED, &[], b"");
    assert!(desk.registrant.is_over());
    let mut desk = Desk::new("coap://rd.example.net");
    desk.registrant.remove(desk.now);
    assert!(desk.registrant.is_over(), "there is nothing to remove");
}

#[test]
fn what_is_listed_is_removed_whatever_failed_since() {
    let changed = || RegistrationSpec { links: b"</est/crts>;rt=x".to_vec(), ..spec() };
    // Another registration of the same endpoint is refused: the first one is still listed.
    let mut desk = Desk::listed();
    desk.registrant.change(desk.now, changed());
    desk.answer(REGISTER, Code::SERVICE_UNAVAILABLE, &[], b"");
    assert_eq!(desk.failure(), ("registration", RegistrationFailure::Refused(Code::SERVICE_UNAVAILABLE)));
    desk.registrant.remove(desk.now);
    desk.answer("DELETE /reg/7?", Code::DELETED, &[], b"");
    assert!(desk.registrant.is_over());
    // The same in the middle of the next attempt, at either step of it.
    let mut desk = Desk::listed();
    desk.registrant.change(desk.now, changed());
    desk.answer(REGISTER, Code::BAD_REQUEST, &[], b"");
    desk.failure();
    desk.wait(Duration::from_secs(45));
    desk.registrant.remove(desk.now);
    desk.answer("DELETE /reg/7?", Code::DELETED, &[], b"");
    let mut desk = Desk::listed();
    desk.registrant.change(desk.now, changed());
    desk.registrant.remove(desk.now);
    desk.answer(REGISTER, Code::BAD_REQUEST, &[], b"");
    desk.answer("DELETE /reg/7?", Code::DELETED, &[], b"");
    assert!(desk.registrant.is_over());
    // A directory that does not know it any more has nothing to remove.
    let mut desk = Desk::listed();
    desk.wait(Duration::from_secs(2_700));
    desk.answer("POST /reg/7?", Code::NOT_FOUND, &[], b"");
    desk.registrant.remove(desk.now);
    assert!(desk.registrant.is_over() && desk.sent().is_empty());
}

#[test]
fn a_directory_that_says_when_is_not_asked_before() {
    let mut desk = Desk::new("coap://rd.example.net/rd");
    let sent = desk.sent();
    let message = sent[0].view();
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, Kind::Acknowledgement, Code::SERVICE_UNAVAILABLE, message.message_id(), message.token())
        .uint(Number::MAX_AGE, 600)
        .payload(b"");
    desk.registrant.handle_datagram(desk.now, &bytes);
    let waited = desk.wait(Duration::from_secs(645));
    assert!(waited >= Duration::from_secs(600), "{waited:?}");
    assert_eq!(desk.sent()[0].line(), REGISTER);
}

#[test]
fn a_directory_that_is_away_is_asked_again_later_and_later() {
    let mut desk = Desk::new("coap://rd.example.net");
    let mut rests = Vec::new();
    for _ in 0..10 {
        assert_eq!(desk.sent().len(), 1);
        for _ in 0..4 {
            desk.wait(Duration::from_secs(48));
            assert_eq!(desk.sent().len(), 1, "sent again");
        }
        desk.wait(Duration::from_secs(48));
        assert_eq!(desk.failure(), ("discovery", RegistrationFailure::Exchange(ExchangeFailure::Timeout)));
        assert!(desk.sent().is_empty());
        rests.push(desk.wait(Duration::from_secs(1_350)));
    }
    assert!(rests[0] >= Duration::from_secs(15) && rests[0] <= Duration::from_secs(45), "{rests:?}");
    assert!(rests[9] >= Duration::from_secs(450), "{rests:?}");
    desk.answer(FIND, Code::CONTENT, &[], b"</rd>;rt=core.rd");
    desk.answer(REGISTER, Code::CREATED, &["r"], b"");
    // A directory that forgot the registration: it is made anew.
    desk.wait(Duration::from_secs(2_700));
    desk.registrant.poll_event();
    desk.answer("POST /r?", Code::NOT_FOUND, &[], b"");
    assert_eq!(desk.failure(), ("refresh", RegistrationFailure::Refused(Code::NOT_FOUND)));
    assert!(desk.wait(Duration::from_secs(45)) >= Duration::from_secs(15), "the count of failures began anew");
    assert_eq!(desk.sent()[0].line(), FIND);
}

/// The paths of aiocoap's directory end in a slash.
#[test]
fn a_path_that_ends_in_a_slash_keeps_it() {
    let mut desk = Desk::new("coap://rd.example.net");
    desk.answer(FIND, Code::CONTENT, &[], br#"</resourcedirectory/>;rt="core.rd";ct=40"#);
    let register = REGISTER.replace("/rd?", "/resourcedirectory/?");
    desk.answer(&register, Code::CREATED, &["reg", "7", ""], b"");
    let location = "reg/7/".to_owned();
    assert_eq!(desk.registrant.poll_event(), Some(RegistrationEvent::Registered { location }));
    desk.registrant.remove(desk.now);
    desk.answer("DELETE /reg/7/?", Code::DELETED, &[], b"");
    let configured = DirectoryUri::parse("coap://rd.example.net/resourcedirectory/").unwrap();
    assert_eq!(configured.to_string(), "coap://rd.example.net/resourcedirectory/");
    assert_eq!(DirectoryUri::parse("coap://rd.example.net/").unwrap().path, "", "it is asked for its path");
    let mut desk = Desk::new("coap://rd.example.net/resourcedirectory/");
    desk.answer(&register, Code::CREATED, &["reg", "7"], b"");
}

#[test]
fn what_a_directory_answers_is_checked() {
    for list in [
        &b""[..],
        b"</rd>;rt=core.rd-lookup-res",
        b"<coap://evil.example/rd>;rt=core.rd",
        b"<//evil/rd>;rt=core.rd",
        b"</>;rt=core.rd",
        b"<///>;rt=core.rd",
        b"\xff",
    ] {
        let mut desk = Desk::new("coap://rd.example.net");
        desk.answer(FIND, Code::CONTENT, &[], list);
        assert_eq!(desk.failure(), ("discovery", RegistrationFailure::NoDirectory), "{list:?}");
    }
    let many = ["x"; 9];
    let long = "x".repeat(200);
    let long = [long.as_str(), long.as_str()];
    for location in [&[][..], &[""], &["a/b"], &["", "a"], &["", ""], &["a", "", "b"], &many, &long] {
        let mut desk = Desk::new("coap://rd.example.net/rd");
        desk.answer(REGISTER, Code::CREATED, location, b"");
        assert_eq!(desk.failure(), ("registration", RegistrationFailure::NoLocation), "{location:?}");
    }
    let mut desk = Desk::new("coap://rd.example.net");
    desk.answer(FIND, Code::CONTENT, &[], &[b'x'; ANSWER_BYTES_MAX + 1]);
    assert_eq!(desk.failure().1, RegistrationFailure::Exchange(ExchangeFailure::TooLarge));
}

#[test]
fn the_uri_of_a_directory() {
    for text in ["coap://rd.example.net", "coap://192.0.2.1:5700", "coap://[2001:db8::1]:5700/rd", "coap://[::1]/a/b"] {
        assert_eq!(DirectoryUri::parse(text).unwrap().to_string(), text);
    }
    let uri = DirectoryUri::parse("coap://[2001:db8::1]:5700/rd").unwrap();
    assert_eq!((uri.host.as_str(), uri.port, uri.path.as_str()), ("2001:db8::1", 5700, "rd"));
    assert_eq!(DirectoryUri::parse("coap://rd.example.net:5683/").unwrap().to_string(), "coap://rd.example.net");
    for text in
        ["coaps://rd", "coap://", "coap://rd:0", "coap://rd:x", "coap://a b", "coap://rd/rd?x", "rd.example.net"]
    {
        assert_eq!(DirectoryUri::parse(text), None, "{text}");
    }
}
