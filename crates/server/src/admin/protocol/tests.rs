//! The schema: the examples of its documentation, and what is not a request.

use super::*;

/// The examples in the documentation of the module, with digits in place of the parts that it leaves out.
fn examples() -> Vec<String> {
    let text = include_str!("../protocol.rs");
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! {\"v\":1"));
    lines.map(|line| format!("{{\"v\":1{}", line.replace('…', "00"))).collect()
}

#[test]
fn the_examples_of_the_documentation_are_requests_and_are_written_as_they_are_read() {
    let read: Vec<AdminRequest> = examples().iter().map(|line| AdminRequest::read(line.as_bytes()).unwrap()).collect();
    assert_eq!(read.len(), 10);
    for request in &read {
        assert_eq!(AdminRequest::read(request.line().as_bytes()).as_ref(), Ok(request));
    }
    let AdminRequest::CertificateRevoke { rows, reason, dry_run: true } = &read[7] else { panic!("{:?}", read[7]) };
    assert_eq!((rows.len(), reason.as_str()), (1, "keyCompromise"));
}

#[test]
fn what_is_not_a_request_is_refused_with_its_reason() {
    for (line, code, says) in [
        ("", AdminFaultCode::BadRequest, "EOF"),
        ("GET / HTTP/1.1", AdminFaultCode::BadRequest, "expected value"),
        ("[]", AdminFaultCode::BadRequest, "expected a map"),
        ("{}", AdminFaultCode::BadRequest, "no version"),
        (r#"{"v":"1","request":"status"}"#, AdminFaultCode::BadRequest, "no version"),
        (r#"{"v":2,"request":"status"}"#, AdminFaultCode::UnsupportedVersion, "version 2"),
        (r#"{"v":1}"#, AdminFaultCode::BadRequest, "missing field `request`"),
        (r#"{"v":1,"request":"cert.forge"}"#, AdminFaultCode::BadRequest, "cert.forge"),
        (r#"{"v":1,"request":"status","force":true}"#, AdminFaultCode::BadRequest, "force"),
        (r#"{"v":1,"request":"cert.list","filter":{"stat":"good"}}"#, AdminFaultCode::BadRequest, "stat"),
        (r#"{"v":1,"request":"cert.list","filter":{"state":"bad"}}"#, AdminFaultCode::BadRequest, "bad"),
        (r#"{"v":1,"request":"cert.show","row":{"serial":"00","certificate":"00"}}"#, AdminFaultCode::BadRequest, ""),
        (r#"{"v":1,"request":"cert.list","rows_max":-1}"#, AdminFaultCode::BadRequest, "-1"),
    ] {
        let fault = AdminRequest::read(line.as_bytes()).unwrap_err();
        assert_eq!(fault.code, code, "{line}: {fault}");
        assert!(fault.message.contains(says) && !fault.remedy.is_empty(), "{line}: {fault}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(AdminRequest::read(deep.as_bytes()).unwrap_err().code, AdminFaultCode::BadRequest);
    assert!(AdminRequest::read(b"\xff\xfe{").is_err());
}

#[test]
fn a_serial_number_is_read_in_the_forms_that_are_copied() {
    let plain = "0100000102030405060708090a0b0c0d0e0f10";
    let serial = serial_number(plain).unwrap();
    assert_eq!(serial.to_string(), plain);
    let colons: Vec<&str> = (0..plain.len()).step_by(2).map(|at| &plain[at..at + 2]).collect();
    for form in [plain.to_uppercase(), format!("serial={plain}"), format!("0x{plain}"), colons.join(":")] {
        assert_eq!(serial_number(&form), Ok(serial), "{form}");
    }
    for (text, says) in [
        ("meter.pem", "hexadecimal"),
        ("0100", "octets"),
        ("", "octets"),
        (&plain.replace("0100", "0200"), "begins with 02"),
    ] {
        assert!(serial_number(text).unwrap_err().contains(says), "{text}");
    }
}

#[test]
fn a_time_is_rfc_3339_or_a_date() {
    let seconds = |text| time_of(text).map(|at| at.as_secs());
    assert_eq!(seconds("1970-01-02"), Ok(86_400));
    assert_eq!(seconds("1970-01-02T00:00:01Z"), Ok(86_401));
    assert_eq!(seconds("1970-01-02T01:00:00+01:00"), Ok(86_400));
    for text in ["", "tomorrow", "1969-01-01", "2026-13-01", "2026-01-01T00:00:00"] {
        assert!(time_of(text).unwrap_err().contains("2026-07-01"), "{text}");
    }
}

#[test]
fn every_reason_has_its_name_and_the_two_temporary_ones_are_refused_with_an_explanation() {
    for reason in RevocationReason::ALL {
        assert_eq!(revocation_reason(reason.name()), Ok(reason));
        assert_eq!(revocation_reason(&reason.name().to_lowercase()), Ok(reason));
    }
    for name in ["certificateHold", "removeFromCRL"] {
        let fault = revocation_reason(name).unwrap_err();
        assert!(fault.contains(name) && fault.contains("final") && fault.contains("keyCompromise"), "{fault}");
    }
    assert!(revocation_reason("stolen").unwrap_err().contains("cessationOfOperation"));
}
