"""What happened in a call, written down."""
