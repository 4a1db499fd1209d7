"""A directory without a centre: Kademlia over each node's own HTTP port."""
