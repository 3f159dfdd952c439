"""Names for the bytes of TLS records and of the handshake messages in them.

Sources: RFC 8446 and RFC 5246 (TLS), RFC 6066 (extensions), and IANA's list of extensions.
"""

from __future__ import annotations

from xai_traffic.capture.fields.spans import Spans

TLS_RECORDS = frozenset((20, 21, 22, 23, 24))
TLS_MESSAGES = {
    0: "HelloRequest",
    1: "ClientHello",
    2: "ServerHello",
    4: "NewSessionTicket",
    8: "EncryptedExtensions",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
    22: "CertificateStatus",
}

_PREFIX = "tls.handshake.extensions_"
_WHOLE, _OWN_LENGTH = 0, -1
_LISTS = {  # extension: name and size of the length, name and size of the items
    10: (f"{_PREFIX}supported_groups_length", 2, f"{_PREFIX}supported_groups", _WHOLE),
    11: (f"{_PREFIX}ec_point_formats_length", 1, f"{_PREFIX}ec_point_formats", _WHOLE),
    13: ("tls.handshake.sig_hash_alg_len", 2, "tls.handshake.sig_hash_algs", _WHOLE),
    16: (f"{_PREFIX}alpn_len", 2, f"{_PREFIX}alpn_str", _OWN_LENGTH),
    27: ("tls.compress_certificate.algorithms_length", 1, "tls.compress_certificate.algorithm", 2),
    34: ("tls.handshake.sig_hash_alg_len", 2, "tls.handshake.sig_hash_algs", _WHOLE),
    43: (
        "tls.handshake.extensions.supported_versions_len",
        1,
        "tls.handshake.extensions.supported_version",
        2,
    ),
    45: ("tls.extension.psk_ke_modes_length", 1, "tls.extension.psk_ke_mode", 1),
    50: ("tls.handshake.sig_hash_alg_len", 2, "tls.handshake.sig_hash_algs", _WHOLE),
    17513: (f"{_PREFIX}alps_len", 2, f"{_PREFIX}alps_alpn_str", _OWN_LENGTH),
}
_FIELDS = {  # of a ClientHello; the last one takes what is left
    5: (
        (f"{_PREFIX}status_request_type", 1),
        (f"{_PREFIX}status_request_responder_ids_len", 2),
        (f"{_PREFIX}status_request_exts_len", 2),
    ),
    15: (("tls.handshake.extension.heartbeat.mode", 1),),
    21: ((f"{_PREFIX}padding_data", 65535),),
    28: (("tls.record_size_limit", 2),),
    65281: ((f"{_PREFIX}reneg_info_len", 1), (f"{_PREFIX}reneg_info", 255)),
}


def looks_like_tls(data: bytes) -> bool:
    """Tell whether bytes begin with a TLS (or SSL 3.0) record header."""
    if len(data) < 5:
        return False
    size = int.from_bytes(data[3:5], "big")
    return data[0] in TLS_RECORDS and data[1] == 3 and data[2] <= 4 and 0 < size <= 18432


def name_tls(spans: Spans) -> None:
    """Name TLS records (RFC 8446, RFC 5246) as long as record headers follow each other."""
    encrypted = False
    while looks_like_tls(spans.peek(5)) or 0 < spans.left < 5 and spans.number(1) in TLS_RECORDS:
        kind = spans.take_number("tls.record.content_type", 1)
        spans.take("tls.record.version", 2)
        record = spans.part(spans.take_number("tls.record.length", 2))
        if kind == 20:
            record.rest("tls.change_cipher_spec")
            encrypted = True
        elif kind == 21:
            if record.left == 2:
                record.take("tls.alert_message.level", 1)
                record.take("tls.alert_message.desc", 1)
            record.rest("tls.alert_message")
        elif kind == 22:
            if not encrypted:
                _name_handshakes(record)
            record.rest("tls.handshake")
        elif kind == 24:
            record.rest("tls.heartbeat_message")
        record.rest("tls.app_data")


def plain_handshake(kind: int, size: int) -> bool:
    """Tell whether a handshake header is credible, or ciphertext that only looks like one."""
    return kind in TLS_MESSAGES and size < (1 << 16 if kind in (1, 2, 11, 12, 13) else 1 << 14)


def _name_handshakes(record: Spans) -> None:
    while record.left and plain_handshake(record.number(1), record.number(3, 1)):
        kind = record.take_number("tls.handshake.type", 1)
        message = record.part(record.take_number("tls.handshake.length", 3))
        if kind in (1, 2):
            _name_hello(message, client=kind == 1)
        elif kind == 11:
            message.take("tls.handshake.certificates_length", 3)
            while message.left:
                size = message.take_number("tls.handshake.certificate_length", 3)
                message.take("tls.handshake.certificate", size)
        message.rest("tls.handshake")


def _name_hello(message: Spans, client: bool) -> None:
    message.take("tls.handshake.version", 2)
    message.take("tls.handshake.random", 32)
    size = message.take_number("tls.handshake.session_id_length", 1)
    message.take("tls.handshake.session_id", size)
    if client:
        size = message.take_number("tls.handshake.cipher_suites_length", 2)
        message.take("tls.handshake.ciphersuites", size)
        size = message.take_number("tls.handshake.comp_methods_length", 1)
        message.take("tls.handshake.comp_methods", size)
    else:
        message.take("tls.handshake.ciphersuite", 2)
        message.take("tls.handshake.comp_method", 1)
    message.take("tls.handshake.extensions_length", 2)
    while message.left:
        kind = message.take_number("tls.handshake.extension.type", 2)
        extension = message.part(message.take_number("tls.handshake.extension.len", 2))
        if kind == 43 and client or kind in _LISTS:
            _name_list(extension, kind)
        elif kind == 43:
            extension.take("tls.handshake.extensions.supported_version", 2)
        elif kind in (40, 51):  # the first is of drafts
            _name_key_shares(extension, client)
        elif kind == 41 and client:
            _name_known_keys(extension)
        elif kind in _FIELDS and client:
            extension.take_all(*_FIELDS[kind])
        elif kind == 0:
            extension.take_all((f"{_PREFIX}server_name_list_len", 2))
            extension.take_all((f"{_PREFIX}server_name_type", 1))
            size = extension.take_number(f"{_PREFIX}server_name_len", 2)
            extension.take(f"{_PREFIX}server_name", size)
        extension.rest("tls.handshake.extension.data")


def _name_list(extension: Spans, kind: int) -> None:
    """Name a length and the items it covers: each with its own length, or of one size, or all."""
    length_name, length_size, item_name, item_size = _LISTS[kind]
    extension.take(length_name, length_size)
    while extension.left:
        size = extension.left if item_size == _WHOLE else item_size
        if item_size == _OWN_LENGTH:
            size = extension.take_number(f"{item_name}_len", 1)
        extension.take(item_name, size)


def _name_key_shares(extension: Spans, client: bool) -> None:
    if client:
        extension.take(f"{_PREFIX}key_share_client_length", 2)
    while extension.left:
        extension.take(f"{_PREFIX}key_share_group", 2)
        size = extension.take_number(f"{_PREFIX}key_share_key_exchange_length", 2)
        extension.take(f"{_PREFIX}key_share_key_exchange", size)


def _name_known_keys(extension: Spans) -> None:
    """Name a client's pre-shared keys: tickets of sessions that it resumes."""
    identities = extension.part(
        extension.take_number("tls.handshake.extensions.psk.identities.length", 2)
    )
    while identities.left:
        size = identities.take_number("tls.handshake.extensions.psk.identity.identity_length", 2)
        identities.take("tls.handshake.extensions.psk.identity.identity", size)
        identities.take("tls.handshake.extensions.psk.identity.obfuscated_ticket_age", 4)
    extension.take("tls.handshake.extensions.psk.binders_len", 2)
    extension.rest("tls.handshake.extensions.psk.binders")
