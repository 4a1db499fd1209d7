class Node:
    id: bytes
    ip: str | None
    port: int | None
    long_id: int
    def __init__(self, node_id: bytes, ip: str | None = None, port: int | None = None) -> None: ...
    def distance_to(self, node: Node) -> int: ...
