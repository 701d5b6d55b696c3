"""Tests that run beside each other get ports of their own."""

from __future__ import annotations

import socket

from tests.support import MOST_PROCESSES, PORTS, free_port, own_ports


def test_no_two_processes_share_a_port() -> None:
    shares = [own_ports(f"gw{number}") for number in range(MOST_PROCESSES)]
    assert sorted(port for share in shares for port in share) == list(PORTS)


def test_a_port_is_free_and_not_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass
