"""A look at a robot under Valetudo: who it is and what it does. Only questions; it is neither started nor stopped."""

import os
import socket
from typing import Any
from urllib.parse import urlsplit

from firmware_bridge import valetudo_rest as rest
from firmware_bridge.ports import Claim, LinkDown, PortBusy
from firmware_bridge.transport import Transport, open_transport

WITHIN_S = 1.0
_ASKED = (f"{rest.API}/robot", f"{rest.API}/valetudo", rest.ATTRIBUTES)


def look(address: str, within_s: float = WITHIN_S) -> dict[str, str]:
    """Its `description` (model, status, battery) and `serial_number`, or as description why not.

    address: http://HOST[:PORT], or where an emulator is. One that a run holds is not asked: it has one line.
    """
    address = port_of(address)
    try:
        if address.startswith("socket://"):
            Claim(address, os.getpid()).release()  # a second connection would take an emulator's line from its run
            at = urlsplit(address)
            socket.create_connection((at.hostname or "", at.port or 80), within_s).close()  # pyserial waits for 5 s
        transport = open_transport(address, os.getpid())
    except PortBusy as problem:
        return {"description": f"in use by process {problem.pid}"}
    except (LinkDown, OSError, ValueError) as problem:
        return {"description": f"does not answer ({problem}): see whether it is on and in the network"}
    try:
        robot, system, attributes = (_ask(transport, path, within_s) for path in _ASKED)
        return {"description": _told(robot, attributes), "serial_number": str(system.get("systemId", ""))}
    except (LinkDown, rest.Garbled, TimeoutError, TypeError, AttributeError, LookupError) as problem:
        return {"description": f"is no Valetudo that answers: {problem}"}
    finally:
        transport.close()


def port_of(address: str) -> str:
    """The port that an address names: plain HTTP is bytes on a socket."""
    if not address.startswith("http://"):
        return address
    at = urlsplit(address)
    return f"socket://{at.hostname}:{at.port or 80}"


def _ask(transport: Transport, path: str, within_s: float) -> Any:
    client = rest.Client()
    transport.write(client.ask("GET", path))
    until_s = transport.now_s + within_s / len(_ASKED)
    while transport.now_s < until_s:
        transport.wait_until(transport.now_s + 0.015)
        reply = client.feed(transport.read())
        if reply is not None:
            return reply.body if reply.status < 400 else {}
    raise TimeoutError(f"nothing within {within_s:g} s")


def _told(robot: dict[str, Any], attributes: list[dict[str, Any]]) -> str:
    """As "Roborock S5, docked, 87 percent"."""
    by_class = {each["__class"]: each for each in attributes}
    status = by_class["StatusStateAttribute"]["value"]
    level = by_class.get("BatteryStateAttribute", {}).get("level", "?")
    return f"{robot['manufacturer']} {robot['modelName']}, {status}, {level} percent"
