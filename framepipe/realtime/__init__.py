"""The OpenAI Realtime protocol: both halves without input and output, and their shells."""
