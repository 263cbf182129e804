use hyper::header::HeaderValue;

use super::*;

#[test]
fn the_type_of_a_request_is_read_as_http_says() {
    let with = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        }
        is_pkcs10(&headers)
    };
    for good in
        ["application/pkcs10", "Application/PKCS10", "application/pkcs10; charset=utf-8", "application/pkcs10 ;a=b"]
    {
        assert!(with(&[good]), "{good}");
    }
    for bad in ["", "application/pkcs10x", "application/pkcs7-mime", "text/plain; application/pkcs10"] {
        assert!(!with(&[bad]), "{bad}");
    }
    assert!(!with(&[]) && !with(&["application/pkcs10", "text/plain"]), "none, and two that differ");
}
