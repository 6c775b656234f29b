"""Every way in which the embedded server may differ from the recordings of the service.

Ids, times, texts and the number of deltas are masked and not listed. One line a difference, with
its reason; `test_golden.py` fails when one of them is not needed any more.
"""

UNORDERED = {
    "conversation.item.input_audio_transcription.delta": "the service orders transcripts against "
    "nothing: they come before, during or after the response, another way in each recording",
    "conversation.item.input_audio_transcription.completed": "as above",
}
"""Left out of the sequence of types; their key sets are compared."""

OPTIONAL = {
    "rate_limits.updated": "comes up to 40 ms after response.done: two recordings end, or go on, "
    "before it came",
}
"""May be in one sequence and not in the other."""

MERGED = {
    "response.output_audio_transcript.delta": "words and audio are streamed at their own pace; how "
    "they interleave is different in each recording",
    "response.output_audio.delta": "as above",
}
"""A run of these counts as one step of the sequence, whatever its order."""

KEYS = {
    "reasoning_tokens": "2.x models count them when they have thought; ours never has",
}
"""Left out of the key sets."""
