"""Community ID against the published baseline of its specification (corelight)."""

import ipaddress

import numpy as np
import pytest

from xai_traffic.capture.community_id import community_id, community_ids
from xai_traffic.capture.records import ANY, SESSION
from xai_traffic.capture.tables import session_table

ONE, OTHER = "fe80:1:203:405:607:809:a0b:c0d", "fe80:1011:1213:1415:1617:1819:1a1b:1c1d"

# protocol, source, destination, source port or type, destination port or code, ID of seed 0 and
# of seed 1: the two tables of baseline/README.md
TABLES = [
    (6, "1.2.3.4", "5.6.7.8", 1122, 3344,
     "1:wCb3OG7yAFWelaUydu0D+125CLM=", "1:HhA1B+6CoLbiKPEs5nhNYN4XWfk="),
    (6, "5.6.7.8", "1.2.3.4", 3344, 1122,
     "1:wCb3OG7yAFWelaUydu0D+125CLM=", "1:HhA1B+6CoLbiKPEs5nhNYN4XWfk="),
    (17, "1.2.3.4", "5.6.7.8", 1122, 3344,
     "1:0Mu9InQx6z4ZiCZM/7HXi2WMhOg=", "1:OShq+iKDAMVouh/4bMxB9Sz4amw="),
    (17, "5.6.7.8", "1.2.3.4", 3344, 1122,
     "1:0Mu9InQx6z4ZiCZM/7HXi2WMhOg=", "1:OShq+iKDAMVouh/4bMxB9Sz4amw="),
    (132, "1.2.3.4", "5.6.7.8", 1122, 3344,
     "1:EKt4MsxuyaE6mL+hmrEkQ9csDD8=", "1:uitchpn5MMGAQKBJh7bIr/bAr7s="),
    (132, "5.6.7.8", "1.2.3.4", 3344, 1122,
     "1:EKt4MsxuyaE6mL+hmrEkQ9csDD8=", "1:uitchpn5MMGAQKBJh7bIr/bAr7s="),
    (1, "1.2.3.4", "5.6.7.8", 8, 0,
     "1:crodRHL2FEsHjbv3UkRrfbs4bZ0=", "1:9pr4ZGTICiuZoIh90RRYE2RyXpU="),
    (1, "5.6.7.8", "1.2.3.4", 0, 0,
     "1:crodRHL2FEsHjbv3UkRrfbs4bZ0=", "1:9pr4ZGTICiuZoIh90RRYE2RyXpU="),
    (1, "1.2.3.4", "5.6.7.8", 11, 0,
     "1:f/YiSyWqczrTgfUCZlBUnvHRcPk=", "1:1DD7cWGC/Yg91YGsQeni8du3pIA="),
    (58, ONE, OTHER, 128, 0, "1:0bf7hyMJUwt3fMED7z8LIfRpBeo=", "1:IO27GQzPuCtNnwFvjWALMHu5tJE="),
    (58, OTHER, ONE, 129, 0, "1:0bf7hyMJUwt3fMED7z8LIfRpBeo=", "1:IO27GQzPuCtNnwFvjWALMHu5tJE="),
    (58, ONE, OTHER, 146, 0, "1:fYC8+pz24E+EhANP1EZhpX0Dw10=", "1:Cv4IKJe56BNkF0MBW2YxQ3Nwc3s="),
    (46, "1.2.3.4", "5.6.7.8", None, None,
     "1:ikv3kmf89luf73WPz1jOs49S768=", "1:/buhqeOmaRCopOZFy9HnoJd5XW8="),
    (46, "5.6.7.8", "1.2.3.4", None, None,
     "1:ikv3kmf89luf73WPz1jOs49S768=", "1:/buhqeOmaRCopOZFy9HnoJd5XW8="),
    (46, ONE, OTHER, None, None,
     "1:wQ/2mwrnXP4lmJcHdGL5ePjR+e0=", "1:j6EyyfBzL4vWKHFXgUqb5Az3OxM="),
    (46, OTHER, ONE, None, None,
     "1:wQ/2mwrnXP4lmJcHdGL5ePjR+e0=", "1:j6EyyfBzL4vWKHFXgUqb5Az3OxM="),
]  # fmt: skip

# More flows of seed 0, of baseline/baseline_deflt.json and of the reference package's tests.
# protocol, source, destination, source port or type, destination port or code, ID
BASELINE = [
    (58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 135, 0,
     "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 136, 0,
     "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 135, 0,
     "1:zavyT/cezQr1fmImYCwYnMXbgck="),
    (58, "3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da", 3, 0,
     "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="),
    (58, "3ffe:501:410:0:2c0:dfff:fe47:33e", "3ffe:507:0:1:200:86ff:fe05:80da", 1, 4,
     "1:hLZd0XGWojozrvxqE0dWB1iM6R0="),
    (58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2", 128, 0,
     "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
    (58, "fe80::260:97ff:fe07:69ea", "ff02::1", 134, 0, "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
    (1, "192.168.0.89", "192.168.0.1", 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    (1, "192.168.0.1", "192.168.0.89", 0, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    (1, "192.168.0.89", "192.168.0.1", 20, 1, "1:tz/fHIDUHs19NkixVVoOZywde+I="),
    (1, "10.0.0.1", "10.0.0.2", 11, 0, "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
    (6, "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", 63943, 25,
     "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
    (132, "192.168.170.8", "192.168.170.56", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    (132, "192.168.170.56", "192.168.170.8", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    (58, "fe80::200:86ff:fe05:80da", "ff02::2", 133, 0, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
    (6, "128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (6, "66.35.250.204", "128.232.110.120", 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (6, "10.0.0.1", "10.0.0.2", 10, 11569, "1:SXBGMX1lBOwhhoDrZynfROxnhnM="),
    (17, "192.168.1.52", "8.8.8.8", 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    (132, "192.168.170.56", "192.168.170.8", 80, 7, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
    (46, "10.1.12.1", "10.1.12.2", None, None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
    (46, "10.1.12.2", "10.1.12.1", None, None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
]  # fmt: skip


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@pytest.mark.parametrize("flow", BASELINE, ids=lambda flow: f"{flow[0]}-{flow[1]}-{flow[3]}")
def test_baseline(flow):
    protocol, source, destination, source_port, destination_port, expected = flow
    ends = packed(source), packed(destination)
    assert community_id(protocol, *ends, source_port, destination_port) == expected


@pytest.mark.parametrize("flow", TABLES, ids=lambda flow: f"{flow[0]}-{flow[1]}-{flow[3]}")
def test_tables_of_the_specification(flow):
    protocol, source, destination, *ports, default, seeded = flow
    ends = packed(source), packed(destination)
    assert community_id(protocol, *ends, *ports) == default
    assert community_id(protocol, *ends, *ports, seed=1) == seeded


@pytest.mark.parametrize(
    ("protocol", "ends", "ports", "expected"),
    [
        (6, ("66.35.250.204", "128.232.110.120"), (80, 34855), "1:3V71V58M3Ksw/yuFALMcW0LAHvc="),
        (17, ("8.8.8.8", "192.168.1.52"), (53, 54585), "1:Q9We8WO3piVF8yEQBNJF4uiSVrI="),
        (1, ("192.168.0.89", "192.168.0.1"), (8, 0), "1:03g6IloqVBdcZlPyX8r0hgoE7kA="),
        (132, ("192.168.170.56", "192.168.170.8"), (7, 7), "1:5w3ZRjeKBzqT3zsaEECDGjUbYeg="),
        (46, ("10.1.24.4", "10.1.12.1"), (), "1:BK3BVW3U2eemuwVQVN3zd/GULno="),
    ],
)
def test_seed(protocol, ends, ports, expected):
    assert community_id(protocol, *map(packed, ends), *ports, seed=1) == expected


def rows(flows) -> np.ndarray:
    """Return the SESSION rows of flows (protocol, source, destination, port or type, ...)."""
    sessions = np.zeros(len(flows), SESSION)
    for row, (protocol, source, destination, one, other, *_) in zip(sessions, flows, strict=True):
        row["family"] = ipaddress.ip_address(source).version
        row["protocol"] = protocol
        for name, address in (("source", source), ("destination", destination)):
            row[name][: len(packed(address))] = list(packed(address))
        names = "icmp_type icmp_code" if protocol in (1, 58) else "source_port destination_port"
        for name, value in zip(names.split(), (one, other), strict=True):
            row[name] = value or 0
    return sessions


@pytest.mark.parametrize("seed", [0, 1])
def test_the_table_of_sessions_has_them_icmp_and_sctp_too(seed):
    table = session_table(rows(TABLES), "a", community_id_seed=seed)
    assert table["community_id"].to_pylist() == [flow[5 + seed] for flow in TABLES]


def test_a_session_of_any_protocols_is_no_flow():
    table = session_table(rows([(ANY, "1.2.3.4", "5.6.7.8", 0, 0)]), "a")
    assert table["community_id"].to_pylist() == [None]
    assert table["protocol"].to_pylist() == ["any"]


@pytest.mark.parametrize("seed", [0, 1, 65_535])
def test_many_at_once_are_those_of_each(seed):
    rng = np.random.default_rng(seed)
    sessions = np.frombuffer(rng.bytes(3000 * SESSION.itemsize), SESSION).copy()
    sessions["family"] = rng.choice([4, 6], len(sessions))
    sessions["protocol"] = rng.choice([1, 6, 17, 46, 58, 132, ANY], len(sessions))
    same = rng.random(len(sessions)) < 0.3  # then ports tell which end is the smaller
    sessions["destination"][same] = sessions["source"][same]
    for row, found in zip(sessions, community_ids(sessions, seed).tolist(), strict=True):
        protocol, size = int(row["protocol"]), 4 if row["family"] == 4 else 16
        ends = row["source"][:size].tobytes(), row["destination"][:size].tobytes()
        names = "icmp_type icmp_code" if protocol in (1, 58) else "source_port destination_port"
        ports = [int(row[name]) for name in names.split()]
        one = "" if protocol == ANY else community_id(protocol, *ends, *ports, seed=seed)
        assert found.decode() == one


def test_none_at_once():
    assert len(community_ids(np.zeros(0, SESSION))) == 0
    assert session_table(np.zeros(0, SESSION), "a")["community_id"].to_pylist() == []
