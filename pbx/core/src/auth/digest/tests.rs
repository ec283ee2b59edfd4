use super::*;

fn scheme(token: &str) -> Scheme {
    Scheme::of(Some(token.as_bytes())).unwrap()
}

/// RFC 7616 §3.9.1: Mufasa asks for /dir/index.html.
fn mufasa<'a>(token: &str) -> Proof<'a> {
    Proof {
        scheme: scheme(token),
        method: b"GET",
        uri: b"/dir/index.html",
        nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        used: Use::Counted(b"00000001"),
    }
}

fn mufasa_answers(token: &str) -> String {
    mufasa(token).response(&Ha1::of("Mufasa", "http-auth@example.org", "Circle of Life")).to_string()
}

#[test]
fn the_vectors_of_rfc_7616_come_out() {
    assert_eq!(mufasa_answers("MD5"), "8ca523f5e9506fed4657c9700eebdbec");
    assert_eq!(mufasa_answers("SHA-256"), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
}

/// RFC 2617 §3.5: the same request with the password of then.
#[test]
fn the_vector_of_rfc_2617_comes_out() {
    let proof = Proof { nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093", cnonce: b"0a4f113b", ..mufasa("MD5") };
    let ha1 = Ha1::of("Mufasa", "testrealm@host.com", "Circle Of Life");
    assert_eq!(proof.response(&ha1).to_string(), "6629fae49393a05397450978507c4ef1");
}

/// RFC 2069 §2.4, with the response of its erratum 749.
#[test]
fn the_vector_of_rfc_2069_comes_out() {
    let proof = Proof { nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093", cnonce: b"", used: Use::Once, ..mufasa("MD5") };
    let ha1 = Ha1::of("Mufasa", "testrealm@host.com", "CircleOfLife");
    assert_eq!(proof.response(&ha1).to_string(), "1949323746fe6a43ef61f9606e7febea");
}

/// Of draft-smith-sip-auth-examples: an INVITE to bob, without and with `qop`, and with a session.
#[test]
fn the_vectors_for_sip_come_out() {
    let proof = Proof {
        scheme: scheme("MD5"),
        method: b"INVITE",
        uri: b"sip:bob@biloxi.com",
        nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
        cnonce: b"0a4f113b",
        used: Use::Counted(b"00000001"),
    };
    let response = |proof: Proof<'_>| proof.response(&Ha1::of("bob", "biloxi.com", "zanzibar")).to_string();
    assert_eq!(response(Proof { used: Use::Once, ..proof }), "bf57e4e0d0bffc0fbaedce64d59add5e");
    assert_eq!(response(proof), "89eb0059246c02b2f6ee02c7961d5ea3");
    assert_eq!(response(Proof { scheme: scheme("MD5-sess"), ..proof }), "e4e4ea61d186d07a92c9e1f6919902e9");
}

/// RFC 7616 has no such vector; these were made with `md5sum` and `sha256sum`.
#[test]
fn a_session_hashes_the_nonces_into_the_secret() {
    assert_eq!(mufasa_answers("MD5-sess"), "e783283f46242139c486a698fec7211d");
    assert_eq!(mufasa_answers("SHA-256-sess"), "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7");
}

#[test]
fn a_response_is_read_in_either_case_and_compared_whole() {
    let ours = Response::read(Algorithm::Md5, b"8ca523f5e9506fed4657c9700eebdbec").unwrap();
    let upper = Response::read(Algorithm::Md5, b"8CA523F5E9506FED4657C9700EEBDBEC").unwrap();
    assert!(ours.is(&upper));
    for at in 0..32 {
        let mut text = *b"8ca523f5e9506fed4657c9700eebdbec";
        text[at] = if text[at] == b'0' { b'1' } else { b'0' };
        assert!(!ours.is(&Response::read(Algorithm::Md5, &text).unwrap()), "{at}");
    }
}

#[test]
fn a_response_of_another_length_or_of_other_digits_is_none() {
    for text in ["", "8ca5", "8ca523f5e9506fed4657c9700eebdbe", "8ca523f5e9506fed4657c9700eebdbecc"] {
        assert!(Response::read(Algorithm::Md5, text.as_bytes()).is_none(), "{text}");
    }
    assert!(Response::read(Algorithm::Md5, b"8ca523f5e9506fed4657c9700eebdbeg").is_none());
    assert!(Response::read(Algorithm::Sha256, b"8ca523f5e9506fed4657c9700eebdbec").is_none());
}

#[test]
fn an_md5_response_is_not_the_beginning_of_a_sha256_one() {
    let short = Response::of(&[0; 16]);
    assert!(!short.is(&Response::of(&[0; 32])));
}
