"""Decisions about a conversation, without tasks, clocks or sockets."""
