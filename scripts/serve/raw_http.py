"""HTTP as bytes, for requests that no client library would send. Used by abuse.py."""

import socket

from common import Answer, Checks, Server


def read_answer(connection: socket.socket) -> Answer | None:
    """Reads one answer until the connection ends or its length is there; None where nothing came."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if found:
            lines = head.decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            if len(body) >= int(headers.get("content-length", 1 << 60)):
                return Answer(int(lines[0].split()[1]), headers, body)
        try:
            part = connection.recv(65536)
        except (ConnectionError, TimeoutError):
            part = b""
        if not part:
            return Answer(int(lines[0].split()[1]), headers, body) if found else None
        data += part


def send(server: Server, data: bytes, timeout: float = 30) -> Answer | None:
    """The answer to raw bytes; None where the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        try:
            connection.sendall(data)
        except ConnectionError:
            pass  # Refused before all was sent: the answer may be there.
        return read_answer(connection)


def head(server: Server, line: str, *headers: str, host: str | None = "") -> bytes:
    """Bytes of a request's head; `host` is the right one where it is "", none where it is None."""
    lines = [line] + ([] if host is None else [f"Host: {host or f'127.0.0.1:{server.port}'}"]) + [*headers]
    return "\r\n".join([*lines, "", ""]).encode()


def post(server: Server, body: bytes, *headers: str, path="/v1/completions") -> Answer | None:
    given = [*headers, f"Content-Length: {len(body)}"]
    if not any(h.lower().startswith("content-type") for h in headers):
        given.append("Content-Type: application/json")
    return send(server, head(server, f"POST {path} HTTP/1.1", *given) + body)


def refused(checks: Checks, name: str, answer: Answer | None, *statuses: int) -> None:
    """Checks for an error of one of these statuses in the form of OpenAI's interface."""
    checks.check(name, answer is not None and answer.is_error(*statuses), answer)
