"""Backends that do their worst, one a file: NumPy's own, with a few lines of malice at a call, at loading or in provenance."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import NamedTuple

TEMPLATE = '''
"""Test backend: {name}."""
import ctypes, gc, json, os, resource, signal, subprocess, sys, threading, time
import numpy as np
from impls.backends import numpy as honest

RUNS = ("numpy",)
CELLS = ("lstm",)
DEVICES = ("cpu",)
CALLS = [0]

def refuses(spec, phase, ragged):
    return honest.refuses(spec, phase, ragged)

def pipes():
    """This process's pipes beyond the standard three: one leads to the parent."""
    for number in range(3, 64):
        try:
            if "pipe" in os.readlink(f"/proc/self/fd/{{number}}"):
                yield number
        except OSError:
            pass

def to_parent(data):
    for number in pipes():
        try:
            os.write(number, data)
        except OSError:
            pass

def evil():
{evil}

class Hostile:
    def __init__(self, inner):
        self.inner = inner
    def __getattr__(self, name):
        return getattr(self.inner, name)
    def __enter__(self):
        return self
    def _count(self):
        CALLS[0] += 1
        if CALLS[0] == {call}:
            evil()
    def forward(self):
        self._count()
        return self.inner.forward()
    def provenance(self):
        {provenance}

def load(spec, params, batch):
    if {call} == 0:
        evil()
    return Hostile(honest.load(spec, params, batch))
'''

AT_LOAD, FIRST, LATER = 0, 1, 30  # the call at which it happens; LATER is among the samples


class Behaviour(NamedTuple):
    """evil: what it does at that call. kinds: the outcomes that are right; `ok` where it harms nobody."""

    name: str
    evil: str
    kinds: tuple[str, ...]
    call: int = LATER
    provenance: str = "return self.inner.provenance()"
    hangs: bool = False


CRASH, ERROR, OK = ("crash",), ("error",), ("ok",)

BEHAVIOURS = (
    # it ends
    Behaviour("segfault", "ctypes.string_at(0)", CRASH),
    Behaviour("abort", "os.abort()", CRASH),
    Behaviour("exit_at_once", "os._exit(0)", CRASH),
    Behaviour("exit_with_code", "os._exit(3)", CRASH, AT_LOAD),
    Behaviour("sys_exit", "sys.exit('bye')", CRASH, FIRST),
    Behaviour("keyboard_interrupt", "raise KeyboardInterrupt", CRASH, FIRST),
    Behaviour("sigkill_itself", "os.kill(os.getpid(), signal.SIGKILL)", CRASH),
    Behaviour("sigterm_itself", "os.kill(os.getpid(), signal.SIGTERM)", CRASH),
    Behaviour("kills_its_group", "os.killpg(0, signal.SIGKILL)", CRASH),
    Behaviour("kills_its_supervisor", "os.kill(os.getppid(), signal.SIGKILL); time.sleep(5)", CRASH),
    Behaviour("terminates_its_supervisor", "os.kill(os.getppid(), signal.SIGTERM); time.sleep(5)", CRASH),
    # it raises
    Behaviour("memory_error", "raise MemoryError", ("out_of_memory",)),
    Behaviour("endless_recursion", "def deeper(): deeper()\ndeeper()", ERROR),
    Behaviour("ten_megabytes_of_message", "raise ValueError('x' * 10_000_000)", ERROR),
    Behaviour("a_lone_surrogate", "raise ValueError('file bad\\udc80name')", ERROR),
    Behaviour("terminal_markup", "raise ValueError('expected [/a] got [/b] [bold]')", ERROR),
    Behaviour("control_characters", "raise ValueError('\\x1b[2J\\x07\\u202e\\r\\n\\0')", ERROR),
    Behaviour("markdown_and_html", "raise ValueError('<script>alert(1)</script> | ` | =1+1')", ERROR),
    Behaviour("a_message_that_raises", "class Bad(Exception):\n    def __str__(self): raise OSError('no')\nraise Bad", ERROR),
    Behaviour("a_message_that_is_no_text", "raise ValueError({1: b'bytes'}, None)", ERROR),
    Behaviour("a_generator_exit", "raise GeneratorExit", CRASH),
    Behaviour("a_thread_that_raises", "threading.Thread(target=lambda: 1 / 0).start()", OK),
    # it writes where it should not
    Behaviour("garbage_line", "to_parent(b'garbage\\n')", CRASH),
    Behaviour("garbage_bytes", "to_parent(bytes(range(256)) + b'\\n')", CRASH),
    Behaviour("a_list_for_an_object", "to_parent(b'[1, 2]\\n')", CRASH),
    Behaviour("a_number_for_an_object", "to_parent(b'1\\n')", CRASH),
    Behaviour("an_answer_of_its_own", "to_parent(b'{\"status\": \"ok\", \"finished\": true, \"latest\": 1e-9}\\n')", CRASH),
    Behaviour("two_answers_of_its_own", "to_parent(b'{\"status\": \"ok\"}\\n' * 2)", CRASH),
    Behaviour("an_unknown_status", "to_parent(b'{\"status\": \"excellent\"}\\n')", CRASH),
    Behaviour("nan_in_an_answer", "to_parent(b'{\"status\": \"ok\", \"latest\": NaN}\\n')", CRASH),
    Behaviour("infinity_in_an_answer", "to_parent(b'{\"status\": \"ok\", \"latest\": 1e999}\\n')", CRASH),
    Behaviour("deep_brackets", "to_parent(b'[' * 50_000 + b'\\n')", CRASH),
    Behaviour("half_a_line_and_silence", "to_parent(b'garb'); time.sleep(1e6)", ("timeout",), hangs=True),
    Behaviour("half_a_line_and_death", "to_parent(b'{\"status\": '); os._exit(0)", CRASH),
    Behaviour("half_a_line_and_a_child", "to_parent(b'garb'); subprocess.Popen(['sleep', '600'], close_fds=False); os._exit(0)",
              CRASH),
    Behaviour("a_line_without_end", "for _ in range(50): to_parent(b'x' * 1_000_000)", CRASH),
    Behaviour("closes_its_pipes", "for number in pipes(): os.close(number)", CRASH),
    Behaviour("closes_all_files", "os.closerange(0, 64)", CRASH),
    Behaviour("prints_much", "sys.stdout.write('o' * 5_000_000 + '\\n'); sys.stdout.flush()", OK),
    Behaviour("complains_much", "sys.stderr.write('e' * 5_000_000); sys.stderr.flush()", OK),
    Behaviour("complains_for_ever",
              "threading.Thread(target=lambda: [os.write(2, b'e' * 4096) for _ in iter(int, 1)], daemon=True).start()", OK),
    Behaviour("closes_its_requests", "os.close(0)", CRASH),
    # its provenance
    Behaviour("nan_in_its_provenance", "pass", CRASH, provenance="return {'ran': 'numpy', 'x': float('nan')}"),
    Behaviour("fifty_megabytes_of_provenance", "pass", CRASH, provenance="return {'ran': 'numpy', 'x': 'p' * 50_000_000}"),
    Behaviour("a_provenance_that_is_a_list", "pass", ("error", "crash"), provenance="return ['numpy']"),
    Behaviour("a_provenance_of_none", "pass", ("error", "crash"), provenance="return None"),
    Behaviour("a_provenance_with_arrays", "pass", ("error", "crash"), provenance="return {'ran': 'numpy', 'x': np.zeros(3)}"),
    Behaviour("a_provenance_that_lies", "pass", ("wrong",), provenance="return {'ran': 'something faster'}"),
    Behaviour("a_provenance_that_raises", "pass", ERROR, provenance="raise OSError('no')"),
    # it hangs
    Behaviour("sleeps", "time.sleep(1e6)", ("timeout",), hangs=True),
    Behaviour("spins", "while True: pass", ("timeout",), hangs=True),
    Behaviour("stops_itself", "os.kill(os.getpid(), signal.SIGSTOP)", ("timeout",), hangs=True),
    Behaviour("ignores_signals_and_sleeps",
              "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(1e6)", ("timeout",), hangs=True),
    # it leaves something behind
    Behaviour("child", "subprocess.Popen(['sleep', '602'])", OK),
    Behaviour("daemon", "subprocess.Popen(['sleep', '601'], start_new_session=True)", OK),
    Behaviour("daemon_of_a_daemon",
              "subprocess.Popen(['sh', '-c', 'setsid sh -c \"setsid sleep 603 & sleep 604\" & sleep 605'])", OK),
    Behaviour("daemon_that_ignores_signals",
              "subprocess.Popen(['sh', '-c', 'trap \"\" TERM HUP INT; setsid sleep 606'], start_new_session=True)", OK),
    Behaviour("daemon_and_death", "subprocess.Popen(['sleep', '607'], start_new_session=True); os._exit(0)", CRASH),
    Behaviour("forks_and_sleeps", "os.fork() or time.sleep(608)", OK),
    Behaviour("forks_and_comes_back_twice", "os.fork()", OK),
    # it changes its process
    Behaviour("clock_runs_backwards",
              "ticks = iter(range(10**9, 0, -1))\ntime.perf_counter = time.perf_counter_ns = lambda: next(ticks)",
              ("crash", "error", "ok", "timeout")),
    Behaviour("clears_its_environment", "os.environ.clear()", OK),
    Behaviour("leaves_its_folder", "os.chdir('/')", OK),
    Behaviour("few_files", "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", ("ok", "error", "crash")),
    Behaviour("no_memory", "resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))",
              ("ok", "out_of_memory", "error", "crash")),
    Behaviour("no_garbage_collection", "gc.disable()", OK),
    Behaviour("spoils_json", "json.dumps = lambda *_, **__: 'null'", CRASH),
)  # fmt: skip


def write(folder: Path, behaviours: tuple[Behaviour, ...] = BEHAVIOURS) -> None:
    """A file for each, as LSTM_BENCH_BACKENDS wants them."""
    for each in behaviours:
        body = TEMPLATE.format(
            name=each.name, evil=textwrap.indent(each.evil, "    "), call=each.call, provenance=each.provenance
        )
        (folder / f"{each.name}.py").write_text(body.lstrip(), encoding="utf-8")
