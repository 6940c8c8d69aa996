"""How a runner tells a portal that is down from one that it cannot reach."""

import socket

from apps.runner.portal import Portal, PortalAway, PortalDown


async def asked(url: str) -> type[PortalAway] | None:
    portal = Portal(url=url, token="t")
    try:
        await portal.post("/agent/v1/heartbeat", "{}", seconds=0.2)
    except PortalAway as error:
        return type(error)
    finally:
        await portal.close()
    return None


async def test_only_a_refused_connection_says_that_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await asked(f"http://127.0.0.1:{port}") is PortalAway
    assert await asked(f"http://127.0.0.1:{port}") is PortalDown
    assert await asked(f"http://localhost:{port}") is PortalDown
