"""Names for the data of DNS resource records.

Sources: IANA's list of types; RFC 1035, RFC 2782 (SRV), RFC 4034 (DNSSEC), RFC 5155 (NSEC3),
RFC 6891 (OPT), RFC 9460 (SVCB, HTTPS).
"""

from __future__ import annotations

from xai_traffic.capture.fields.spans import Spans

_NAME, _REST, _STRING = -1, -2, -3
_DATA: dict[int, tuple[tuple[str, int], ...]] = {
    1: (("dns.a", _REST),),
    2: (("dns.ns", _REST),),
    5: (("dns.cname", _REST),),
    6: (
        ("dns.soa.mname", _NAME),
        ("dns.soa.rname", _NAME),
        ("dns.soa.serial_number", 4),
        ("dns.soa.refresh_interval", 4),
        ("dns.soa.retry_interval", 4),
        ("dns.soa.expire_limit", 4),
        ("dns.soa.minimum_ttl", 4),
    ),
    10: (("dns.null", _REST),),
    12: (("dns.ptr.domain_name", _REST),),
    13: (("dns.hinfo.cpu", _STRING), ("dns.hinfo.os", _STRING)),
    15: (("dns.mx.preference", 2), ("dns.mx.mail_exchange", _REST)),
    28: (("dns.aaaa", _REST),),
    33: (
        ("dns.srv.priority", 2),
        ("dns.srv.weight", 2),
        ("dns.srv.port", 2),
        ("dns.srv.target", _REST),
    ),
    35: (
        ("dns.naptr.order", 2),
        ("dns.naptr.preference", 2),
        ("dns.naptr.flags", _STRING),
        ("dns.naptr.service", _STRING),
        ("dns.naptr.regex", _STRING),
        ("dns.naptr.replacement", _REST),
    ),
    43: (
        ("dns.ds.key_id", 2),
        ("dns.ds.algorithm", 1),
        ("dns.ds.digest_type", 1),
        ("dns.ds.digest", _REST),
    ),
    44: (
        ("dns.sshfp.algorithm", 1),
        ("dns.sshfp.fingerprint.type", 1),
        ("dns.sshfp.fingerprint", _REST),
    ),
    46: (
        ("dns.rrsig.type_covered", 2),
        ("dns.rrsig.algorithm", 1),
        ("dns.rrsig.labels", 1),
        ("dns.rrsig.original_ttl", 4),
        ("dns.rrsig.signature_expiration", 4),
        ("dns.rrsig.signature_inception", 4),
        ("dns.rrsig.key_tag", 2),
        ("dns.rrsig.signers_name", _NAME),
        ("dns.rrsig.signature", _REST),
    ),
    47: (("dns.nsec.next_domain_name", _NAME),),
    48: (
        ("dns.dnskey.flags", 2),
        ("dns.dnskey.protocol", 1),
        ("dns.dnskey.algorithm", 1),
        ("dns.dnskey.public_key", _REST),
    ),
    52: (
        ("dns.tlsa.certificate_usage", 1),
        ("dns.tlsa.selector", 1),
        ("dns.tlsa.matching_type", 1),
        ("dns.tlsa.certificate_association_data", _REST),
    ),
}
_TEXT, _SENDERS, _OPTIONS, _SIGNATURE, _NSEC3, _NSEC3_PARAMETERS, _SERVICES = (
    16,
    99,
    41,
    250,
    50,
    51,
    (64, 65),
)
_ALPN_LENGTH = "dns.svcb.svcparam.alpn.length"
_PARAMETERS = {
    0: ("dns.svcb.svcparam.mandatory.key", 2),
    1: ("dns.svcb.svcparam.alpn", _STRING),
    3: ("dns.svcb.svcparam.port", 2),
    4: ("dns.svcb.svcparam.ipv4hint.ip", 4),
    5: ("dns.svcb.svcparam.echconfig", _REST),
    6: ("dns.svcb.svcparam.ipv6hint.ip", 16),
}


def name_data(data: Spans, kind: int) -> None:
    """Name the data of a resource record of a type up to the end of `data`."""
    if kind == _TEXT:
        while data.left:
            data.take("dns.txt", data.take_number("dns.txt.length", 1))
    elif kind == _SENDERS:
        while data.left:
            data.take("dns.spf", data.take_number("dns.spf.length", 1))
    elif kind == _OPTIONS:
        while data.left:
            data.take("dns.opt.code", 2)
            data.take("dns.opt.data", data.take_number("dns.opt.len", 2))
    elif kind == _SIGNATURE:
        data.take("dns.tsig.algorithm_name", name_size(data))
        data.take_all(("dns.tsig.time_signed", 6), ("dns.tsig.fudge", 2))
        data.take("dns.tsig.mac", data.take_number("dns.tsig.mac_size", 2))
        data.take_all(("dns.tsig.original_id", 2), ("dns.tsig.error", 2))
        data.take("dns.tsig.other_data", data.take_number("dns.tsig.other_len", 2))
    elif kind in (_NSEC3, _NSEC3_PARAMETERS):
        data.take_all(("dns.nsec3.algo", 1), ("dns.nsec3.flags", 1), ("dns.nsec3.iterations", 2))
        data.take("dns.nsec3.salt_value", data.take_number("dns.nsec3.salt_length", 1))
        if kind == _NSEC3:
            data.take("dns.nsec3.hash_value", data.take_number("dns.nsec3.hash_length", 1))
    elif kind in _SERVICES:
        data.take("dns.svcb.svcpriority", 2)
        data.take("dns.svcb.targetname", name_size(data))
        while data.left:
            key = data.take_number("dns.svcb.svcparam.key", 2)
            value = data.part(data.take_number("dns.svcb.svcparam.value.length", 2))
            name, size = _PARAMETERS.get(key, ("dns.svcb.svcparam.value", _REST))
            while value.left:
                if size == _STRING:
                    value.take(name, value.take_number(_ALPN_LENGTH, 1))
                else:
                    value.take(name, value.left if size == _REST else size)
    for name, size in _DATA.get(kind, ()):
        if size == _NAME:
            size = name_size(data)
        elif size == _STRING:
            size = data.take_number(f"{name}_length", 1)
        data.take(name, data.left if size == _REST else size)
    data.rest("dns.data")


def name_size(spans: Spans) -> int:
    """Return the bytes that an encoded domain name takes at the cursor, a pointer included."""
    size = 0
    while size < spans.left:
        label = spans.number(1, size)
        if label >= 192:
            return size + 2
        size += 1 + label
        if label == 0:
            break
    return size
