"""Ctrl-C while the program loads its commands: it ends without a word, and is heeded again once they are there."""

import signal
import subprocess
import sys

import pytest

LOADING = "import sys, os, signal; sys.argv = [{name!r}, 'look']; import curation.command_line; "
HIT = "os.kill(os.getpid(), signal.SIGINT); print('went on')"
LOADED = "from curation.interrupts import heed_ends; heed_ends(); "


def ended(script: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["/usr/bin/facecaptionhq", "cli.py"])
def test_while_commands_are_loaded_the_program_ends_without_a_word(name: str) -> None:
    assert ended(LOADING.format(name=name) + HIT) == (-signal.SIGINT, "", "")


def test_once_they_are_there_an_interrupt_is_one(capfd: pytest.CaptureFixture[str]) -> None:
    code, said, told = ended(LOADING.format(name="facecaptionhq") + LOADED + HIT)
    assert (code, said) == (-signal.SIGINT, "") and told.splitlines()[-1] == "KeyboardInterrupt"


def test_another_program_and_one_that_ignores_ctrl_c_keep_what_they_had() -> None:
    code, said, told = ended(LOADING.format(name="pytest") + HIT)
    assert (code, said) == (-signal.SIGINT, "") and "KeyboardInterrupt" in told
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    assert ended(ignoring + LOADING.format(name="facecaptionhq") + LOADED + HIT) == (0, "went on\n", "")
