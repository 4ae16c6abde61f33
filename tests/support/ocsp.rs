//! OCSP responses, byte by byte: nobody has signed them.

/// What the responder thinks of the certificate.
pub(crate) const GOOD: &[u8] = &[0x80, 0];
#[allow(dead_code, reason = "not every test asks for it")]
pub(crate) const REVOKED: &[u8] = b"\xa1\x11\x18\x0f20240101000000Z";
#[allow(dead_code, reason = "not every test asks for it")]
pub(crate) const UNKNOWN: &[u8] = &[0x82, 0];

/// A response about the certificate with this serial number, from the beginning of 2024 on.
pub(crate) fn response(serial: &[u8], status: &[u8], next_update: Option<&str>) -> Vec<u8> {
    let sha1 = [6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0];
    let ecdsa = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let basic = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let hash = part(0x04, &[&[7; 20]]);
    let time = |text: &str| part(0x18, &[text.as_bytes()]);
    let now = time("20240101000000Z");
    let about = part(0x30, &[&part(0x30, &[&sha1]), &hash, &hash, &part(0x02, &[serial])]);
    let next = next_update.map_or_else(Vec::new, |next| part(0xa0, &[&time(next)]));
    let single = part(0x30, &[&about, status, &now, &next]);
    let data = part(0x30, &[&part(0xa2, &[&hash]), &now, &part(0x30, &[&single])]);
    let signed = part(0x30, &[&data, &part(0x30, &[&ecdsa]), &part(0x03, &[&[0, 1, 2, 3]])]);
    let body = part(0x30, &[&basic, &part(0x04, &[&signed])]);
    part(0x30, &[&[0x0a, 1, 0], &part(0xa0, &[&body])])
}

/// A value in DER.
fn part(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let length = content.len();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short @ ..0x80) => bytes.push(short),
        Ok(long) => bytes.extend([0x81, long]),
        Err(_) => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend(content);
    bytes
}
