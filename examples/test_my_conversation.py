"""The tests of a conversation: a user who coughs, any user at all, a service that hangs up.

Run it with pytest or as a program. You will see which tests passed; no port is opened, and minutes
of conversation take a moment.
"""

from hypothesis import given, settings

from framepipe import AudioOut, Mute, Pipeline, Unmute
from framepipe.testing import (
    Collector,
    Conversation,
    Cough,
    Pause,
    ScriptedService,
    ScriptedUser,
    Speech,
    hold,
    run_virtual,
)
from framepipe.testing.strategies import conversations
from framepipe_processors import Realtime


def test_a_user_who_talks_over_the_answer_is_not_talked_over() -> None:
    user = (Pause(300), Speech(800), Pause(2_000), Speech(1_200), Pause(4_000))
    held = run_virtual(hold, Conversation(user=user, answer_ms=6_000))
    assert len(held.cuts) == 1
    assert held.late_audio_ms() == 0
    assert held.worst_truncation_ms() <= 10


def test_a_cough_mutes_and_does_not_cut() -> None:
    user = (Pause(300), Speech(800), Pause(2_000), Cough(), Pause(4_000))
    held = run_virtual(hold, Conversation(user=user, answer_ms=2_500))
    assert [f for _, _, f in held.frames if isinstance(f, Mute | Unmute)] == [Mute(), Unmute()]
    assert held.cuts == ()


@given(conversations(max_acts=5))
@settings(max_examples=5, deadline=None)
def test_in_no_conversation_is_a_cut_answer_heard(conversation: Conversation) -> None:
    assert run_virtual(hold, conversation).late_audio_ms() == 0


async def hangs_up_in_the_middle(service: ScriptedService) -> None:
    await service.greet()
    await service.user_turn(500, 1_500)
    await service.begin("R1")
    await service.speak("R1", ms=200)
    await service.hang_up()


def test_a_service_that_hangs_up_is_called_again() -> None:
    service, ear = ScriptedService(hangs_up_in_the_middle), Collector()
    realtime = Realtime(url="ws://127.0.0.1/v1/realtime", connect=service.connect)
    run_virtual(Pipeline(ScriptedUser(Pause(4_000)), realtime, ear).run)
    assert service.n_sockets > 1
    assert ear.of(AudioOut)


def main() -> None:
    for test in (
        test_a_user_who_talks_over_the_answer_is_not_talked_over,
        test_a_cough_mutes_and_does_not_cut,
        test_in_no_conversation_is_a_cut_answer_heard,
        test_a_service_that_hangs_up_is_called_again,
    ):
        test()
        print("passed:", test.__name__)


if __name__ == "__main__":
    main()
