"""Tables of sessions and packets: what they call things, and what is null."""

import numpy as np

from xai_traffic.capture.records import ANY, PACKET, SESSION
from xai_traffic.capture.tables import packet_rows_of, packet_table, session_table


def test_tables_of_tunnels_and_of_any_numbers():
    sessions = np.zeros(3, SESSION)
    sessions["family"], sessions["protocol"] = (4, 6, 4), (132, 58, ANY)
    sessions["outer_family"], sessions["tunnel"] = (6, 4, 0), (3, 2, 0)
    sessions["depth"], sessions["icmp_type"], sessions["icmp_code"] = (2, 1, 0), 128, 7
    sessions["outer_source"][:2, :4] = [[0xFD, 0, 0, 0], [192, 0, 2, 1]]
    sessions["outer_destination"][:2, 15] = 9
    rows = session_table(sessions, "a").to_pylist()
    assert [row["protocol"] for row in rows] == ["sctp", "icmp6", "any"]
    assert [row["tunnel"] for row in rows] == ["gre", "6in4", None]
    assert [row["outer_source"] for row in rows] == ["fd00::", "192.0.2.1", None]
    assert [row["outer_destination"] for row in rows] == ["::9", "0.0.0.0", None]
    assert [row["depth"] for row in rows] == [2, 1, 0]
    assert [row["icmp_type"] for row in rows] == [None, 128, None]
    assert [row["icmp_code"] for row in rows] == [None, 7, None]

    rng = np.random.default_rng(0)
    packets = np.frombuffer(rng.bytes(100 * PACKET.itemsize), PACKET).copy()
    packets["reserved"] = 0
    assert packet_rows_of(packet_table(packets)).tobytes() == packets.tobytes()
