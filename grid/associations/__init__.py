"""Node and network, associated: asked for with a signed word, approved on both sides, ended by either."""
